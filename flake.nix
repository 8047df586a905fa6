{
  description = "fleet: deploys NixOS to a fleet of hosts, and cannot leave one broken";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixpkgs-unstable";
    nixos-hardware.url = "github:NixOS/nixos-hardware";
  };

  outputs =
    {
      self,
      nixpkgs,
      nixos-hardware,
    }:
    let
      # Of the machines that run `fleet`; what the hosts are is fleet.toml's to say.
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEachSystem =
        make:
        builtins.listToAttrs (
          map (system: {
            name = system;
            value = make nixpkgs.legacyPackages.${system};
          }) systems
        );
    in
    {
      lib.mkFleet = import ./lib/mk-fleet.nix;

      nixosConfigurations = self.lib.mkFleet {
        inherit nixpkgs;
        inventory = ./fleet.toml;
        hosts = ./hosts;
        modules = [ self.nixosModules.default ];
        specialArgs = { inherit nixos-hardware; };
      };

      # Each file is imported by its path, so that a module that comes twice is one.
      nixosModules = {
        base.imports = [ ./modules/base.nix ];
        default.imports = [ ./modules/base.nix ];
      };

      packages = forEachSystem (pkgs: rec {
        fleet = pkgs.callPackage ./package.nix { };
        default = fleet;
      });

      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShell {
          # `make` does the rest: it installs the Python side into .venv.
          packages = [
            pkgs.git
            pkgs.mypy
            pkgs.openssh
            pkgs.python3
            pkgs.ruff
            pkgs.shellcheck
          ];
        };
      });

      checks = forEachSystem (pkgs: {
        inherit (self.packages.${pkgs.stdenv.hostPlatform.system}) fleet;
      });

      formatter = forEachSystem (pkgs: pkgs.nixfmt-tree);

      templates.default = {
        path = ./templates/default;
        description = "A fleet.toml, the flake that reads it, and one host";
      };
    };
}
