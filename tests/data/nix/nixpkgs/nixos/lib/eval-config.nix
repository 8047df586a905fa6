# A stand-in for NixOS's own: it evaluates a guest with the options of NixOS that modules/ set there, and as many as microvm.nix reads.
# Of the real microvm.nix it takes the options, and not what builds a machine from them.
{ modules, lib ? import (builtins.getEnv "FLEET_NIXPKGS_LIB"), pkgs ? import ../../../packages.nix { inherit lib; }, ... }:
let
  inherit (lib) mkOption types;
  of = type: default: mkOption { inherit type default; };
  nixos.options = {
    assertions = of (types.listOf types.unspecified) [ ];
    warnings = of (types.listOf types.str) [ ];
    boot.kernelPackages = of types.raw { kernel = { version = "6.12"; outPath = "/kernel"; }; };
    networking.hostName = of types.str "nixos";
    networking.useDHCP = of types.bool true;
    networking.useNetworkd = of types.bool false;
    networking.nameservers = of (types.listOf types.str) [ ];
    systemd.network.networks = of (types.attrsOf (types.submodule {
      options.matchConfig = of (types.attrsOf types.str) { };
      options.address = of (types.listOf types.str) [ ];
      options.routes = of (types.listOf (types.attrsOf types.str)) [ ];
    })) { };
    environment.systemPackages = of (types.listOf types.package) [ ];
    users.users = of (types.attrsOf (types.submodule {
      options.isNormalUser = of types.bool false;
      options.home = of types.str "";
      options.openssh.authorizedKeys.keys = of (types.listOf types.singleLineStr) [ ];
    })) { };
    services.openssh.enable = of types.bool false;
    services.openssh.settings = of (types.attrsOf (types.oneOf [ types.bool types.str ])) { };
    nix.enable = of types.bool true;
    nix.optimise.automatic = of types.bool false;
    system.build = of types.attrs { };
  };
  # The whole of its guest is a folder; its options are a file of that.
  optionsOf = module: if builtins.typeOf module == "path" && baseNameOf module == "microvm" then [ (module + "/options.nix") (module + "/asserts.nix") ] else [ module ];
in
lib.evalModules { modules = lib.concatMap optionsOf modules ++ [ nixos { _module.args.pkgs = pkgs; } ]; }
