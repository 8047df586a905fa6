{
  description = "fleet: deploys NixOS to a fleet of hosts, and cannot leave one broken";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixpkgs-unstable";
    nixos-hardware = {
      url = "github:NixOS/nixos-hardware";
      # Its files are all that hosts need. As a flake it has had a nixpkgs of its own since summer 2026, by an address that
      # old Nix cannot lock.
      flake = false;
    };
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

      # Who takes the example need not take the program: then its package, tests and template are no outputs.
      hasProgram = builtins.pathExists ./pyproject.toml;
      ofProgram = outputs: if hasProgram then outputs else { };

      inventory = builtins.fromTOML (builtins.readFile ./fleet.toml);
      hostsWith = keys: builtins.filter (name: has keys (hostOf name)) (builtins.attrNames inventory.hosts);
      hostOf =
        name:
        { system = "x86_64-linux"; } // (inventory.defaults or { }) // inventory.hosts.${name};
      has = keys: host: builtins.intersectAttrs keys host == keys;
    in
    {
      lib.mkFleet = import ./modules/lib/mk-fleet.nix;

      nixosConfigurations = self.lib.mkFleet {
        inherit nixpkgs;
        inventory = ./fleet.toml;
        hosts = ./hosts;
        modules = [ self.nixosModules.default ];
        specialArgs = { inherit nixos-hardware; };
      };

      # Each file is imported by its path, so that a module that comes twice is one. None needs another, or an input.
      nixosModules =
        let
          files = {
            base = ./modules/base.nix;
            builder = ./modules/builder.nix;
            cache = ./modules/cache.nix;
            database = ./modules/database.nix;
            gpu = ./modules/gpu.nix;
            mesh = ./modules/mesh.nix;
            models = ./modules/models.nix;
          };
          # What these run is a part of the program, which works on the host: one file, made of its parts.
          hostProgram = ./fleet/host/program;
          setProgramOf =
            name:
            { lib, pkgs, ... }:
            if builtins.pathExists hostProgram then
              { services.fleet.${name}.program = lib.mkDefault (pkgs.writeScript "fleet-host" (import hostProgram)); }
            else
              { };
          guard.imports = [
            ./modules/guard.nix
            (setProgramOf "guard")
          ];
          gc.imports = [
            ./modules/gc.nix
            (setProgramOf "gc")
          ];
          edge.imports = [
            ./modules/edge.nix
            (setProgramOf "gc")
          ];
          gate.imports = [
            ./modules/gate.nix
            (setProgramOf "gate")
            { services.fleet.gate.scripts = if builtins.pathExists hostProgram then import ./fleet/host/gate/scripts.nix else { }; }
          ];
          sandbox.imports = [
            ./modules/sandbox.nix
            (
              { lib, pkgs, ... }:
              if builtins.pathExists ./fleet/sandbox then
                {
                  services.fleet.sandbox.program = lib.mkDefault (pkgs.writeScript "fleet-sandbox-program" (import ./fleet/sandbox/program));
                  services.fleet.sandbox.probe = lib.mkDefault (
                    pkgs.writeScript "fleet-sandbox-probe" (builtins.readFile ./fleet/sandbox/scripts/probe.sh)
                  );
                }
              else
                { }
            )
          ];
          agents.imports = [
            ./modules/agents.nix
            (
              { lib, pkgs, ... }:
              let
                fleet = pkgs.callPackage ./modules/lib/package.nix { };
              in
              {
                services.fleet.agents.package = lib.mkDefault (
                  fleet.overridePythonAttrs (old: { dependencies = old.dependencies ++ old.optional-dependencies.serve; })
                );
              }
            )
          ];
          deliver.imports = [
            ./modules/deliver.nix
            (
              { lib, pkgs, ... }:
              { services.fleet.deliver.package = lib.mkDefault (pkgs.callPackage ./modules/lib/package.nix { }); }
            )
          ];
          serve.imports = [
            ./modules/serve.nix
            (
              { lib, pkgs, ... }:
              let
                fleet = pkgs.callPackage ./modules/lib/package.nix { };
                served = old: { dependencies = old.dependencies ++ fleet.optional-dependencies.serve; };
              in
              { services.fleet.serve.package = lib.mkDefault (fleet.overridePythonAttrs served); }
            )
          ];
          worker.imports = [
            ./modules/worker.nix
            (
              { lib, pkgs, ... }:
              let
                fleet = pkgs.callPackage ./modules/lib/package.nix { };
                scaled = old: { dependencies = old.dependencies ++ fleet.optional-dependencies.scale; };
              in
              { services.fleet.worker.package = lib.mkDefault (fleet.overridePythonAttrs scaled); }
            )
          ];
        in
        builtins.mapAttrs (_: file: { imports = [ file ]; }) files
        // {
          inherit
            agents
            deliver
            edge
            gate
            gc
            guard
            sandbox
            serve
            worker
            ;
          default.imports = builtins.attrValues files ++ [
            agents
            deliver
            edge
            gate
            gc
            guard
            sandbox
            serve
            worker
          ];
        };

      packages = ofProgram (
        forEachSystem (pkgs: rec {
          fleet = pkgs.callPackage ./modules/lib/package.nix { };
          default = fleet;
        })
      );

      devShells = forEachSystem (
        pkgs:
        let
          gpuHosts = hostsWith {
            kind = "gpu";
            inherit (pkgs.stdenv.hostPlatform) system;
          };
        in
        {
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
        }
        // (
          if gpuHosts == [ ] then
            { }
          else
            {
              # The packages of a GPU host: what is compiled here runs there.
              cuda =
                let
                  inherit (self.nixosConfigurations.${builtins.head gpuHosts}) pkgs;
                in
                pkgs.mkShell {
                  packages = [
                    pkgs.cudaPackages.cuda_nvcc
                    pkgs.cudaPackages.cuda_cudart
                    pkgs.cudaPackages.libcublas
                  ];
                  # libcuda.so belongs to the driver, which only the host itself has.
                  shellHook = "export LD_LIBRARY_PATH=/run/opengl-driver/lib\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}";
                };
            }
        )
      );

      checks = ofProgram (
        forEachSystem (
          pkgs:
          let
            inherit (self.packages.${pkgs.stdenv.hostPlatform.system}) fleet;
          in
          {
            inherit fleet;
            # Virtual machines: real NixOS, systemd-boot and switch-to-configuration. Needs KVM.
            deploy = pkgs.testers.runNixOSTest {
              imports = [ ./tests/nixos/deploy.nix ];
              _module.args = {
                inherit fleet;
                inherit (self) nixosModules;
              };
            };
          }
        )
      );

      formatter = forEachSystem (pkgs: pkgs.nixfmt-tree);

      # For rigs of rigup.nix, which are not needed here.
      riglets = ofProgram {
        fleet = {
          key = "fleet#riglets.fleet";
          imports = [ (import ./riglets/fleet self) ];
        };
      };

      templates = ofProgram {
        default = {
          path = ./docs/template;
          description = "A fleet.toml, the flake that reads it, and one host";
        };
      };
    };
}
