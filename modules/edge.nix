# A small computer far away, on a memory card: it comes back from a hang by itself, and spares the card.
{
  config,
  lib,
  options,
  ...
}:
let
  cfg = config.services.fleet.edge;
  inherit (lib) mkOption types;
  # Before what a profile of NixOS has by mkDefault, and after what a host says.
  preferred = lib.mkOverride 900;

  journal = {
    Storage = cfg.journal.storage;
    SystemMaxUse = cfg.journal.maxUse;
    RuntimeMaxUse = cfg.journal.maxUse;
    SyncIntervalSec = "15m";
  };
  limit = preferred cfg.keepGenerations;
  mebibytes = number: number * 1024 * 1024;
  span = types.strMatching "[0-9]+(s|min)" // {
    description = "time such as 30s or 10min";
  };
in
{
  imports = [ ./gc.nix ];

  options.services.fleet.edge = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether this is a small host that nobody can walk to: a watchdog, little writing, and few generations. It also
        enables services.fleet.gc.
      '';
    };

    watchdog = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether the hardware resets the host when systemd hangs. It then boots the boot default, which is a system
          that was proven: a deployment that hangs the host is undone by it.
        '';
      };
      timeout = mkOption {
        type = span;
        default = "30s";
        description = "How long systemd may be silent. A Raspberry Pi with a kernel older than 5.17 can do 15s at most.";
      };
      rebootTimeout = mkOption {
        type = span;
        default = "10min";
        description = "How long a shutdown may take before the hardware resets the host.";
      };
    };

    journal = {
      storage = mkOption {
        type = types.enum [
          "volatile"
          "persistent"
        ];
        default = "volatile";
        description = ''
          Where the journal is. In memory it costs the card nothing, and is gone after a reboot; `fleet` shows the lines
          that matter of a failed deployment before that.
        '';
      };
      maxUse = mkOption {
        type = types.strMatching "[0-9]+[KMG]";
        default = "64M";
        description = "The most that the journal takes.";
      };
    };

    store = {
      minFree = mkOption {
        type = types.ints.positive;
        default = 512;
        description = "When less than this many MiB are free, Nix collects garbage before it adds to the store.";
      };
      maxFree = mkOption {
        type = types.ints.positive;
        default = 1024;
        description = "Up to how many free MiB it then collects.";
      };
    };

    allowBuilds = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether Nix may build here. A build can fill the memory and the card. It has to be true where fleet.toml says
        `build_on = "target"`.
      '';
    };

    keepGenerations = mkOption {
      type = types.ints.between 2 20;
      default = 3;
      description = ''
        How many of the newest generations to keep, and to offer in the boot menu: at least the one that runs and the
        one before it. Each has its kernel in /boot.
      '';
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        assertions = [
          {
            assertion = cfg.store.minFree < cfg.store.maxFree;
            message = ''
              services.fleet.edge.store.maxFree (${toString cfg.store.maxFree} MiB) must be more than minFree
              (${toString cfg.store.minFree} MiB), or Nix would collect garbage and free nothing: raise maxFree.
            '';
          }
          {
            assertion = cfg.keepGenerations <= config.services.fleet.gc.keep;
            message = ''
              services.fleet.edge offers ${toString cfg.keepGenerations} generations in the boot menu, and
              services.fleet.gc.keep deletes all but ${toString config.services.fleet.gc.keep}: make them equal.
            '';
          }
        ];

        services.fleet.gc = {
          enable = lib.mkDefault true;
          keep = lib.mkDefault cfg.keepGenerations;
        };
        boot.loader = {
          generic-extlinux-compatible.configurationLimit = limit;
          grub.configurationLimit = limit;
          systemd-boot.configurationLimit = limit;
        }
        // lib.optionalAttrs (options.boot.loader ? limine) { limine.maxGenerations = limit; };
        # A kernel that panics would wait for somebody to come.
        boot.kernelParams = [ "panic=10" ];

        nix.settings = {
          min-free = preferred (mebibytes cfg.store.minFree);
          max-free = preferred (mebibytes cfg.store.maxFree);
          max-jobs = lib.mkIf (!cfg.allowBuilds) (preferred 0);
        };
      }
      (lib.mkIf cfg.watchdog.enable {
        systemd.settings.Manager = {
          RuntimeWatchdogSec = preferred cfg.watchdog.timeout;
          RebootWatchdogSec = preferred cfg.watchdog.rebootTimeout;
        };
      })
      # NixOS 26.11 has journald.conf as an attribute set, and refuses what 26.05 has.
      (
        if options.services.journald ? settings then
          { services.journald.settings.Journal = lib.mapAttrs (_: preferred) journal; }
        else
          {
            services.journald.storage = preferred journal.Storage;
            # Of a key that is there twice the last one counts: what a host says.
            services.journald.extraConfig = lib.mkBefore (
              lib.generators.toKeyValue { } (removeAttrs journal [ "Storage" ])
            );
          }
      )
    ]
  );
}
