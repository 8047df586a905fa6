# Garbage collection that leaves every rollback possible.
{ config, lib, ... }:
let
  cfg = config.services.fleet.gc;
  inherit (lib) mkOption types;

  deletesAll =
    word:
    lib.hasPrefix "--delete-old" word # and --delete-older-than
    || builtins.match "-[A-Za-z]*d[A-Za-z]*" word != null;
in
{
  options.services.fleet.gc = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether to delete old generations and to collect garbage from time to time.

        Kept are the system that runs, the one that was booted, the newest generations, and what `fleet` has a root for:
        what was last proven, what ran before that, what is pushed or being deployed. `nix-collect-garbage -d` deletes
        all of these but the current generation, so nix.gc must not use it. Nothing is collected during a deployment.
      '';
    };

    keep = mkOption {
      type = types.ints.positive;
      default = 5;
      description = "How many of the newest generations to keep, in addition to those that are in use.";
    };

    dates = mkOption {
      type = types.singleLineStr;
      default = "weekly";
      example = "Sun 04:00";
      description = "When to collect: a calendar event of {manpage}`systemd.time(7)`.";
    };

    randomizedDelaySec = mkOption {
      type = types.singleLineStr;
      default = "45min";
      description = "The collection begins at a random time up to this long after `dates`, so that not all hosts do at once.";
    };

    startBelow = mkOption {
      type = types.nullOr types.ints.positive;
      default = null;
      example = 20;
      description = "Collect only while less than this many GiB are free on the disk of the store; null: always.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = !lib.any deletesAll (lib.splitString " " config.nix.gc.options);
        message = ''
          nix.gc.options is "${config.nix.gc.options}", which deletes old generations without regard to what a rollback
          needs, and services.fleet.gc is enabled: remove nix.gc.options and nix.gc.automatic, and say how many
          generations to keep by services.fleet.gc.keep.
        '';
      }
      {
        assertion = config.nix.enable;
        message = "services.fleet.gc collects with Nix, and nix.enable is false: disable services.fleet.gc";
      }
    ];

    # Whoever can open this file can hold the lock, and then the boot menu cannot be written. Only root has to.
    systemd.tmpfiles.rules = [
      "d /run/nixos 0755 root root -"
      "f /run/nixos/switch-to-configuration.lock 0600 root root -"
    ];

    systemd.services.fleet-gc = {
      description = "Delete generations and collect garbage that no rollback needs";
      path = [ config.nix.package ];
      environment = {
        KEEP = toString cfg.keep;
        START_BELOW = lib.optionalString (cfg.startBelow != null) (toString cfg.startBelow);
      };
      script = builtins.readFile ./gc.sh;
      restartIfChanged = false;
      serviceConfig = {
        Type = "oneshot";
        StateDirectory = "fleet-gc";
        CPUSchedulingPolicy = "idle";
        IOSchedulingClass = "idle";
      };
    };

    systemd.timers.fleet-gc = {
      description = "When to collect garbage that no rollback needs";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.dates;
        RandomizedDelaySec = cfg.randomizedDelaySec;
        Persistent = true;
      };
    };
  };
}
