# Stand-ins for the options of NixOS that modules/ sets, with NixOS's types and defaults as far as they matter here.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  of = type: default: mkOption { inherit type default; };
  bool = of types.bool;
  str = of types.str "";
  strings = of (types.listOf types.str) [ ];
  freeform = of (types.attrsOf types.anything) { };
  nullOrBool = of (types.nullOr types.bool) null;

  unit = types.submodule {
    freeformType = types.attrsOf types.anything;
    options = {
      description = str;
      wantedBy = strings;
      environment = of (types.attrsOf types.str) { };
      path = of (types.listOf types.anything) [ ];
      script = of types.lines "";
      serviceConfig = freeform;
      timerConfig = freeform;
    };
  };
in
{
  options = {
    assertions = of (types.listOf types.unspecified) [ ];
    warnings = strings;

    networking.hostName = str;
    nixpkgs.hostPlatform = mkOption {
      type = types.either types.str types.attrs;
      default = "x86_64-linux";
      apply = given: if builtins.isString given then { system = given; } else given;
    };
    nixpkgs.config = freeform;
    nixpkgs.overlays = of (types.listOf types.raw) [ ];

    boot.binfmt.emulatedSystems = strings;
    boot.kernelParams = strings;
    boot.loader.generic-extlinux-compatible.configurationLimit = of types.int 20;
    boot.loader.systemd-boot.configurationLimit = of (types.nullOr types.int) null;

    hardware.graphics.enable = bool false;
    hardware.nvidia = {
      open = nullOrBool;
      nvidiaPersistenced = bool false;
      branch = of types.str "stable";
      package = of types.raw { version = "580.95.05"; };
    };
    services.xserver.videoDrivers = strings;

    nix = {
      enable = bool true;
      package = of types.str "/usr";
      settings = mkOption {
        default = { };
        type = types.submodule {
          freeformType = types.attrsOf types.anything;
          options = {
            require-sigs = bool true;
            substituters = strings;
            trusted-public-keys = strings;
            trusted-users = strings;
            max-jobs = of (types.either types.int (types.enum [ "auto" ])) "auto";
          };
        };
      };
      gc.options = of types.singleLineStr "";
      sshServe = {
        enable = bool false;
        write = bool false;
        trusted = bool false;
        protocol = of (types.enum [ "ssh" "ssh-ng" ]) "ssh";
        keys = strings;
      };
      daemonCPUSchedPolicy = of (types.enum [ "other" "batch" "idle" ]) "other";
      daemonIOSchedClass = of (types.enum [ "best-effort" "idle" ]) "best-effort";
      distributedBuilds = bool false;
      buildMachines = of (types.listOf (types.submodule {
        options = {
          hostName = mkOption { type = types.str; };
          protocol = of (types.enum [ null "ssh" "ssh-ng" ]) "ssh";
          sshUser = of (types.nullOr types.str) null;
          sshKey = of (types.nullOr types.str) null;
          systems = strings;
          maxJobs = of types.int 1;
          speedFactor = of types.int 1;
          supportedFeatures = strings;
        };
      })) [ ];
    };
    programs.ssh.knownHosts = freeform;

    users.users = of (types.attrsOf (types.submodule {
      options.isNormalUser = bool false;
      options.description = str;
      options.group = of types.str "users"; # of those for whom isNormalUser is true
      options.extraGroups = strings;
      options.openssh.authorizedKeys.keys = of (types.listOf types.singleLineStr) [ ];
    })) { };
    users.groups = of (types.attrsOf (types.submodule { options.members = strings; })) { };
    security = lib.genAttrs [ "sudo" "sudo-rs" ] (name: {
      enable = bool (name == "sudo");
      execWheelOnly = bool false;
      extraRules = of (types.listOf types.attrs) [ ];
    });
    services.openssh = {
      enable = bool false;
      settings = of (types.attrsOf types.anything) { };
      extraConfig = of types.lines "";
    };

    system.preSwitchChecks = of (types.attrsOf types.str) { };

    systemd.services = of (types.attrsOf unit) { };
    systemd.timers = of (types.attrsOf unit) { };
    systemd.settings.Manager = of (types.attrsOf (types.oneOf [ types.str types.int types.bool ])) { };
  };
}
