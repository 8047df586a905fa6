# Carries out deployments for others, together with other workers: `fleet worker`.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.fleet.worker;
  inherit (lib) mkOption types;
  flags = [
    "--file"
    (toString cfg.file)
    "--site"
    cfg.site
    "--at-once"
    (toString cfg.atOnce)
  ]
  ++ lib.optional cfg.trustDatabase "--trust-database";
in
{
  options.services.fleet.worker = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to carry out deployments of `fleet deploy --workers`.";
    };

    package = mkOption {
      type = types.nullOr types.package;
      default = null;
      description = "The fleet that works, with its extra `scale`. The flake sets its own; elsewhere it has to be set.";
    };

    file = mkOption {
      type = types.nullOr types.singleLineStr;
      default = null;
      example = "/etc/fleet/fleet.toml";
      description = "The inventory, with principals.toml and policy.toml beside it. `fleet-worker` has to be able to read it.";
    };

    site = mkOption {
      type = types.strMatching "[A-Za-z0-9._-]*";
      default = "";
      example = "fra";
      description = "The site whose hosts it takes. Empty: those of no site.";
    };

    atOnce = mkOption {
      type = types.ints.between 1 1000;
      default = 64;
      description = "How many hosts it has under way at most.";
    };

    trustDatabase = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether it applies whatever plan is in the database. Without this it needs a principals.toml, and applies what its
        authors have signed.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.file != null && cfg.package != null;
        message = "services.fleet.worker needs file and package: which hosts it knows, and with which fleet.";
      }
      {
        assertion = lib.hasPrefix "/" (toString cfg.file);
        message = "services.fleet.worker.file is ${toString cfg.file}: it has to begin with /, since a service has no folder of yours.";
      }
    ];
    # Whoever is this user is root on the hosts. Nobody else can look into its home, which has its keys and ~/.pgpass.
    users.users.fleet-worker = {
      isSystemUser = true;
      group = "fleet-worker";
      home = "/var/lib/fleet-worker";
    };
    users.groups.fleet-worker = { };
    systemd.services.fleet-worker = {
      description = "Carry out deployments, together with other workers";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      path = [
        config.nix.package
        config.programs.ssh.package
        pkgs.bash
      ];
      serviceConfig = {
        User = "fleet-worker";
        StateDirectory = "fleet-worker";
        StateDirectoryMode = "0700";
        ExecStart = "${toString cfg.package}/bin/fleet worker ${lib.escapeShellArgs flags}";
        Restart = "always";
        RestartSec = 10;
        # It takes nothing new, and sees through what has begun. Then others take what is left.
        KillMode = "mixed";
        TimeoutStopSec = "30min";
        NoNewPrivileges = true;
        ProtectSystem = "strict";
        PrivateTmp = true;
      };
    };
    # A deployment by this very worker to this very machine would wait for itself otherwise.
    systemd.services.fleet-worker.restartIfChanged = false;
  };
}
