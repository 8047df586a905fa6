# Watches every switch, however it was made, and goes back by itself to the system before if the new one is bad.
{ config, lib, ... }:
let
  cfg = config.services.fleet.guard;
  inherit (lib) mkOption types;

  unit = types.strMatching "[A-Za-z0-9:_.\\@-]+\\.[a-z]+" // {
    description = "unit with its suffix, such as sshd.service";
  };
  span = types.strMatching "[0-9]+(s|min)" // {
    description = "time such as 90s or 5min";
  };
  seconds =
    text:
    if lib.hasSuffix "min" text then
      60 * lib.toIntBase10 (lib.removeSuffix "min" text)
    else
      lib.toIntBase10 (lib.removeSuffix "s" text);

  asks = cfg.units != [ ] || cfg.checks != { };
  service = "fleet-guard.service";

  order = lib.concatLines (
    [
      "fleet-guard v1"
      "confirm ${toString (seconds cfg.window)}"
      "threshold ${toString cfg.restartThreshold}"
      "guarded ${cfg.action}"
    ]
    ++ lib.optional asks "ask ${service}"
    ++ map (pattern: "ignore ${pattern}") cfg.ignoreUnits
    ++ map (name: "snippet ${name}") cfg.ignoreSnippets
    ++ [ "end" ]
  );

  isActive = name: ask "is ${name} active?" "systemctl is-active --quiet ${lib.escapeShellArg name}";
  # Each in a shell of its own; the first that fails ends the script.
  ask = name: text: ''
    printf '%s\n' ${lib.escapeShellArg name}
    (
    set -e
    ${text}
    )
  '';
in
{
  options.services.fleet.guard = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether this host watches itself after every switch, also one by `nixos-rebuild` or another deployer. A system
        whose activation failed, of which a unit fails or restarts again and again, or whose checks fail, is replaced by
        the one that ran before, which is the boot default again too. Nobody has to be there.

        A deployment by `fleet` is proven by `fleet`; then the guard does nothing. It does nothing either for
        `nixos-rebuild boot`, and when pre-switch checks are skipped by `NIXOS_NO_CHECK=1`.
      '';
    };

    program = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = lib.literalExpression ''pkgs.writeScript "fleet-host" (import ./fleet/host/program)'';
      description = ''
        The host program of `fleet`: an executable file with the text that the folder {file}`fleet/host/program` of its
        source makes. The modules of its flake set it.
      '';
    };

    window = mkOption {
      type = span;
      default = "60s";
      description = ''
        For how long after the end of the activation the new system is watched, and has to prove itself. A host that
        reboots meanwhile watches for as long again.
      '';
    };

    units = mkOption {
      type = types.listOf unit;
      default = [ ];
      example = [ "sshd.service" ];
      description = ''
        Units that have to be active when the window ends. Units that newly fail, or are restarted again and again, need
        not be named: each of them counts.
      '';
    };

    checks = mkOption {
      type = types.attrsOf types.lines;
      default = { };
      example = lib.literalExpression ''
        { "the web page" = "''${pkgs.curl}/bin/curl -fsS http://127.0.0.1/"; }
      '';
      description = ''
        What has to succeed when the window ends: texts for the shell, by a name, run by root. All of them together have
        five minutes.
      '';
    };

    restartThreshold = mkOption {
      type = types.ints.positive;
      default = 2;
      description = "A unit that systemd has restarted this often since the activation ended is bad.";
    };

    ignoreUnits = mkOption {
      type = types.listOf types.singleLineStr;
      default = [ ];
      example = [ "backup-*" ];
      description = "Patterns of units whose failure says nothing of the system.";
    };

    ignoreSnippets = mkOption {
      type = types.listOf types.singleLineStr;
      default = [ ];
      example = [ "specialfs" ];
      description = ''
        Names of activation scripts that may fail, as `specialfs` does in a container. Where one has failed, the
        activation is run once more after the switch, to see whether others have too.
      '';
    };

    action = mkOption {
      type = types.enum [
        "revert"
        "report"
      ];
      default = "revert";
      description = ''
        What becomes of a bad system: `revert` goes back, `report` only says in the journal that it would have
        (`journalctl -u 'fleet-keep-*'`).
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.program != null;
        message = ''
          services.fleet.guard.program is not set: take the folder fleet/host/program of fleet's source and set
          pkgs.writeScript "fleet-host" (import ./fleet/host/program), or import nixosModules.guard of its flake, which
          does that.
        '';
      }
      {
        assertion = seconds cfg.window >= 5;
        message = ''
          services.fleet.guard.window is ${cfg.window}, in which nothing could be proven: make it 5s or longer.
        '';
      }
    ];

    # It runs in the switch itself: after the profile was set, before the boot loader is written and before anything
    # stops. Whatever goes wrong here must not keep anybody from repairing the host. Checks run in the order of their
    # names until one fails: it is the last of them, or it would see switches that are then refused.
    system.preSwitchChecks."~fleet-guard" = ''
      ${cfg.program} guard "''${1-}" "''${NIXOS_ACTION-}" <<'END' || echo "services.fleet.guard does not watch this switch"
      ${order}END
    '';

    systemd.services.fleet-guard = lib.mkIf asks {
      description = "Ask whether this host does what it is for, at the end of a switch";
      script = lib.concatStrings (
        map isActive cfg.units ++ lib.mapAttrsToList (name: ask "check ${name}") cfg.checks
      );
      restartIfChanged = false;
      serviceConfig = {
        Type = "oneshot";
        TimeoutStartSec = "5min";
      };
    };

    systemd.services.fleet-guard-boot = {
      description = "Go on watching a switch after a reboot";
      wantedBy = [ "multi-user.target" ];
      unitConfig.ConditionPathExists = "/nix/var/fleet/open";
      restartIfChanged = false;
      serviceConfig = {
        Type = "oneshot";
        ExecStart = "${cfg.program} 2 facts";
        StandardOutput = "null"; # they are for whoever asks
      };
    };
  };
}
