# A stand-in for nixpkgs, colmena and deploy-rs: values of the shape that theirs have, and systems of two files.
# A test copies it beside each of the fleets in this folder.
let
  system =
    name:
    derivation {
      name = "nixos-system-${name}-26.05";
      system = "x86_64-linux";
      builder = "/bin/sh";
      args = [
        "-ec"
        ''
          /bin/mkdir -p "$out/bin"
          echo 26.05 >"$out/nixos-version"
          echo '#!/bin/sh' >"$out/bin/switch-to-configuration"
          /bin/chmod 755 "$out/bin/switch-to-configuration"
        ''
      ];
    };
in
rec {
  # As lib.nixosSystem gives it. `modules` is the configuration in full: nothing is merged.
  nixosSystem = name: modules: {
    pkgs.stdenv.hostPlatform.system = "x86_64-linux";
    config = {
      networking.domain = null;
      services.openssh.ports = [ 22 ];
      users.users = { };
    }
    // modules
    // {
      system.build = {
        toplevel = system name;
      }
      // (modules.system.build or { });
    };
  };

  # As colmena.lib.makeHive gives it: https://colmena.cli.rs, src/nix/hive/eval.nix, schema v0.5.
  makeHive =
    hive:
    let
      raw = removeAttrs hive [
        "meta"
        "defaults"
      ];
      given =
        name:
        let
          node = raw.${name};
        in
        if builtins.isFunction node then
          node {
            inherit name nodes;
            config = { };
            pkgs = { };
            lib = { };
          }
        else
          node;
      nodes = builtins.mapAttrs (
        name: _:
        nixosSystem name (
          (hive.defaults or { })
          // given name
          // {
            deployment = {
              allowLocalDeployment = false;
              buildOnTarget = false;
              keys = { };
              privilegeEscalationCommand = [
                "sudo"
                "-H"
                "--"
              ];
              replaceUnknownProfiles = true;
              sshOptions = [ ];
              tags = [ ];
              targetHost = name;
              targetPort = null;
              targetUser = "root";
            }
            // (hive.defaults.deployment or { })
            // ((given name).deployment or { });
          }
        )
      ) raw;
    in
    {
      __schema = "v0.5";
      inherit nodes;
      toplevel = builtins.mapAttrs (_: node: node.config.system.build.toplevel) nodes;
      deploymentConfig = builtins.mapAttrs (_: node: node.config.deployment) nodes;
      deploymentConfigSelected = names: throw "only colmena asks for ${toString names}";
      evalSelected = names: throw "only colmena asks for ${toString names}";
      evalSelectedDrvPaths = names: throw "only colmena asks for ${toString names}";
      metaConfig = {
        name = "hive";
      };
      introspect = _: throw "only colmena asks";
    };

  # As deploy-rs.lib.SYSTEM.activate.nixos gives it: a derivation around the system, which is no system.
  activate = configuration: {
    type = "derivation";
    name = "activatable-${configuration.config.system.build.toplevel.name}";
    inherit (system "activatable-${configuration.config.system.build.toplevel.name}") drvPath outPath;
  };
}
