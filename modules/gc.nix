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

        Kept are the systems that run, were booted and boot next, the newest generations, and what `fleet` has a root for:
        what was last proven, what ran before that, what is pushed or being deployed. It is the rule of `fleet gc`.
        `nix-collect-garbage -d` deletes all of these but the current generation, so nix.gc must not use it. Nothing is
        collected during a deployment.
      '';
    };

    program = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = lib.literalExpression ''pkgs.writeScript "fleet-host" (import ./fleet/host/program)'';
      description = ''
        The host program of `fleet`, which has the rule: an executable file with the text that the folder
        {file}`fleet/host/program` of its source makes. The modules of its flake set it.
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
        assertion = cfg.program != null;
        message = ''
          services.fleet.gc.program is not set: take the folder fleet/host/program of fleet's source and set
          pkgs.writeScript "fleet-host" (import ./fleet/host/program), or import nixosModules.gc or nixosModules.edge of its
          flake, which do that.
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
      script = "${cfg.program} gc ${toString cfg.keep} ${toString (if cfg.startBelow == null then 0 else cfg.startBelow)}";
      restartIfChanged = false;
      serviceConfig = {
        Type = "oneshot";
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
