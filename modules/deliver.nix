# Brings hosts what they have missed while they were away, from the machine that deployments come from.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.fleet.deliver;
  inherit (lib) mkOption types;
in
{
  options.services.fleet.deliver = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to deliver to hosts as they come back: `fleet deliver --watch`.";
    };

    package = mkOption {
      type = types.nullOr types.package;
      default = null;
      description = "The fleet that delivers. The flake sets its own; elsewhere it has to be set.";
    };

    user = mkOption {
      type = types.nullOr types.singleLineStr;
      default = null;
      example = "ann";
      description = "Whose deployments are delivered, with the SSH keys and the configuration of that user.";
    };

    file = mkOption {
      type = types.nullOr types.singleLineStr;
      default = null;
      example = "/home/ann/fleet/fleet.toml";
      description = "The inventory.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.user != null && cfg.file != null && cfg.package != null;
        message = "services.fleet.deliver needs user, file and package: whose deployments it delivers, and with which fleet.";
      }
      {
        assertion = lib.hasPrefix "/" (toString cfg.file);
        message = "services.fleet.deliver.file is ${toString cfg.file}: it has to begin with /, since a service has no folder of yours.";
      }
    ];
    systemd.services.fleet-deliver = {
      description = "Bring hosts what they have missed while they were away";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      # A service of NixOS has no shell and no Nix by itself.
      path = [
        config.nix.package
        config.programs.ssh.package
        pkgs.bash
      ];
      serviceConfig = {
        User = toString cfg.user;
        ExecStart = "${toString cfg.package}/bin/fleet deliver --watch --file ${lib.escapeShellArg (toString cfg.file)}";
        Restart = "on-failure";
        RestartSec = 30;
        # Hosts that have begun to switch are proven or go back first.
        KillMode = "mixed";
        TimeoutStopSec = "15min";
      };
      # A delivery to this very machine would wait for itself otherwise.
      restartIfChanged = false;
    };
  };
}
