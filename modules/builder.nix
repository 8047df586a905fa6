# A host that builds for others, and hosts that let others build.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.fleet.builder;
  inherit (lib) mkOption types;
  # Before what a profile of NixOS has by mkDefault, and after what a host says.
  preferred = lib.mkOverride 900;
  own = pkgs.stdenv.hostPlatform.system;
  systems = types.strMatching "[a-z0-9_]+-(linux|darwin)" // {
    description = "system such as aarch64-linux";
  };

  machine = types.submodule (
    { name, ... }:
    {
      options = {
        host = mkOption {
          type = types.strMatching "[A-Za-z0-9_.:-]+";
          default = name;
          defaultText = lib.literalMD "the name of the attribute";
          description = "Name or address of the builder. Its `services.fleet.builder.enable` is true.";
        };
        hostKey = mkOption {
          type = types.strMatching "(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp[0-9]+) AAAA[^\n]*";
          example = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…";
          description = "Public host key of the builder. Nix cannot ask a person whether to trust it.";
        };
        sshKey = mkOption {
          type = types.strMatching "/.+";
          default = "/etc/nix/builder_ed25519";
          description = ''
            Path on this host of the private key that root logs in with. Its public half is in
            `services.fleet.builder.authorizedKeys` of the builder. It must not be in the Nix store.
          '';
        };
        systems = mkOption {
          type = types.nonEmptyListOf systems;
          default = [ "x86_64-linux" ];
          description = "What the builder builds for.";
        };
        maxJobs = mkOption {
          type = types.ints.positive;
          default = 4;
          description = "How many builds this host starts there at the same time.";
        };
        speedFactor = mkOption {
          type = types.ints.positive;
          default = 1;
          description = "Of several builders that could take a build, the one with the higher number gets it.";
        };
        supportedFeatures = mkOption {
          type = types.listOf types.singleLineStr;
          default = [
            "big-parallel"
            "kvm"
            "nixos-test"
          ];
          description = "Features of the builder, which some derivations require.";
        };
      };
    }
  );
in
{
  options.services.fleet.builder = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether the hosts and people whose keys are below may build here, over SSH as the user `nix-ssh`, which has no
        shell and forwards nothing.

        Whoever may build here can put any path in the store of this host, without a signature: give keys to nobody
        who must not become root here.
      '';
    };

    authorizedKeys = mkOption {
      type = types.listOf types.singleLineStr;
      default = [ ];
      example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… root@pi-edge" ];
      description = "Public keys that may build here.";
    };

    emulatedSystems = mkOption {
      type = types.listOf systems;
      default = [ ];
      example = [ "aarch64-linux" ];
      description = ''
        Foreign systems to build for by emulation (binfmt and QEMU). About ten times slower than the real machine, and
        enough for a Raspberry Pi whose packages come from cache.nixos.org.
      '';
    };

    machines = mkOption {
      type = types.attrsOf machine;
      default = { };
      example = lib.literalExpression ''
        {
          "gpu-01.lan" = {
            hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…";
            systems = [ "x86_64-linux" "aarch64-linux" ];
          };
        }
      '';
      description = "Builders that this host uses. It needs no `enable`.";
    };
  };

  config = lib.mkMerge [
    (lib.mkIf cfg.enable {
      assertions = [
        {
          assertion = cfg.authorizedKeys != [ ];
          message = ''
            services.fleet.builder.authorizedKeys is empty: nobody could build here. Add the public keys of the hosts
            that should, or disable services.fleet.builder.
          '';
        }
      ];
      nix.sshServe = {
        enable = true;
        protocol = "ssh-ng";
        write = true;
        trusted = true;
        keys = cfg.authorizedKeys;
      };
      # NixOS forbids this user every other kind.
      services.openssh.extraConfig = lib.mkAfter ''
        Match User nix-ssh
          AllowStreamLocalForwarding no
        Match All
      '';
      # What the host is for comes first.
      nix.daemonCPUSchedPolicy = preferred "batch";
      nix.daemonIOSchedClass = preferred "idle";
    })
    (lib.mkIf (cfg.emulatedSystems != [ ]) {
      assertions = [
        {
          assertion = !lib.elem own cfg.emulatedSystems;
          message = ''
            services.fleet.builder.emulatedSystems has ${own}, which this host is itself: remove it from the list.
          '';
        }
      ];
      # NixOS does not get as far as our message where its own system is among them.
      boot.binfmt.emulatedSystems = lib.remove own cfg.emulatedSystems;
    })
    (lib.mkIf (cfg.machines != { }) {
      assertions = lib.mapAttrsToList (name: machine: {
        assertion = !lib.hasPrefix "/nix/store/" machine.sshKey;
        message = ''
          services.fleet.builder.machines.${name}.sshKey is in the Nix store, where every user can read it: keep the
          private key outside, for example in /etc/nix, and write its path as a string.
        '';
      }) cfg.machines;
      nix.distributedBuilds = true;
      nix.buildMachines = lib.mapAttrsToList (_: machine: {
        hostName = machine.host;
        protocol = "ssh-ng";
        sshUser = "nix-ssh";
        inherit (machine)
          maxJobs
          speedFactor
          sshKey
          supportedFeatures
          systems
          ;
      }) cfg.machines;
      programs.ssh.knownHosts = lib.mapAttrs (_: machine: {
        hostNames = [ machine.host ];
        publicKey = machine.hostKey;
      }) cfg.machines;
      # The builder fetches inputs from caches itself, instead of over this host's link.
      nix.settings.builders-use-substitutes = preferred true;
    })
  ];
}
