# Shows a fleet in a browser and answers agents, from a machine that has its logins: `fleet serve`. Nix evaluates as another
# user, who has no logins, within limits.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.fleet.serve;
  inherit (lib) mkOption types;
  follows = cfg.source.remote != null;
  folder = "/var/lib/fleet-source";
  file = if follows then "${folder}/current/${cfg.source.file}" else toString cfg.file;
  program = "${toString cfg.package}/bin/fleet";
  flags = [
    "--file"
    file
    "--listen"
    cfg.listen
    "--every"
    cfg.every
    (if cfg.ask then "--ask" else "--no-ask")
  ]
  ++ lib.optionals (cfg.url != "") [
    "--url"
    cfg.url
  ]
  ++ lib.optionals (cfg.certificate != null) [
    "--certificate"
    "%d/certificate"
    "--key"
    "%d/key"
  ];
  secret = types.strMatching "/.+" // {
    description = "absolute path";
  };
  size = types.strMatching "[1-9][0-9]*[KMGT]" // {
    description = "size such as 4G";
  };
  time = types.strMatching "([1-9][0-9]*(s|min|h))+" // {
    description = "time such as 90s or 10min";
  };

  # What none of these needs.
  hardened = {
    NoNewPrivileges = true;
    CapabilityBoundingSet = "";
    LockPersonality = true;
    PrivateDevices = true;
    PrivateTmp = true;
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHome = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectProc = "invisible";
    ProtectSystem = "strict";
    RemoveIPC = true;
    RestrictAddressFamilies = "AF_UNIX AF_INET AF_INET6";
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    UMask = "0077";
  };
  # Whoever is this user is root on the hosts. Nobody else can look into its home, which has its keys.
  owned = hardened // {
    User = "fleet-serve";
    Group = "fleet-serve";
    StateDirectory = "fleet-serve";
    StateDirectoryMode = "0700";
    CacheDirectory = "fleet-serve";
    CacheDirectoryMode = "0700";
    ReadOnlyPaths = lib.optional follows "-${folder}";
  };
  environment = {
    HOME = "/var/lib/fleet-serve";
    XDG_CACHE_HOME = "/var/cache/fleet-serve";
    FLEET_SERVED = "1";
    FLEET_EVALUATOR = "/run/fleet-evaluate.sock";
  };
  path = [
    config.nix.package
    config.programs.ssh.package
    pkgs.bash
    pkgs.git
  ];
  source = lib.optional follows "fleet-serve-source.service";
  base = {
    inherit environment path;
    wantedBy = [ "multi-user.target" ];
    wants = [ "network-online.target" ] ++ source;
    after = [ "network-online.target" ] ++ source;
  };
in
{
  options.services.fleet.serve = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to show the fleet in a browser and to answer agents.";
    };

    package = mkOption {
      type = types.nullOr types.package;
      default = null;
      description = "The fleet that serves, with its extra `serve`. The flake sets its own; elsewhere it has to be set.";
    };

    file = mkOption {
      type = types.nullOr types.singleLineStr;
      default = null;
      example = "/etc/fleet/fleet.toml";
      description = "The inventory, with principals.toml and policy.toml beside it, where no branch is followed.";
    };

    source = {
      remote = mkOption {
        type = types.nullOr types.singleLineStr;
        default = null;
        example = "git@forge.example.org:ann/fleet.git";
        description = ''
          The repository that fleet.toml, policy.toml and principals.toml are read from. `fleet-serve` has to be let in there,
          to read. Nobody on this machine edits what is served then.
        '';
      };

      branch = mkOption {
        type = types.strMatching "[A-Za-z0-9][A-Za-z0-9._/-]*";
        default = "main";
        description = "The protected branch that is followed. One whose history was rewritten is not followed any further.";
      };

      file = mkOption {
        type = types.strMatching "[A-Za-z0-9][A-Za-z0-9._/-]*";
        default = "fleet.toml";
        description = "The inventory in the repository.";
      };

      every = mkOption {
        type = time;
        default = "1min";
        description = "How often the branch is looked at.";
      };
    };

    listen = mkOption {
      type = types.singleLineStr;
      default = "127.0.0.1:8420";
      description = "Where it can be reached. Beyond loopback it needs a certificate.";
    };

    url = mkOption {
      type = types.singleLineStr;
      default = "";
      example = "https://fleet.example.org";
      description = "What people type, where a proxy stands before it.";
    };

    certificate = mkOption {
      type = types.nullOr secret;
      default = null;
      description = "The file with the certificates for HTTPS. systemd reads it, and its user cannot.";
    };

    key = mkOption {
      type = types.nullOr secret;
      default = null;
      description = "The file with the key for HTTPS.";
    };

    ask = mkOption {
      type = types.bool;
      default = true;
      description = "Whether hosts are asked what they are.";
    };

    every = mkOption {
      type = types.strMatching "([0-9]+(h|m|s))+";
      default = "1m";
      description = "How often each host is asked.";
    };

    deliver = mkOption {
      type = types.bool;
      default = false;
      description = "Whether it also delivers to hosts that come back, in a service beside it.";
    };

    evaluation = {
      memory = mkOption {
        type = size;
        default = "8G";
        description = "How much memory one evaluation may take.";
      };

      time = mkOption {
        type = time;
        default = "15min";
        description = "How long one evaluation may take.";
      };

      atOnce = mkOption {
        type = types.ints.between 1 64;
        default = 4;
        description = "How many evaluations there may be at the same time.";
      };
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.package != null && (cfg.file != null) != follows;
        message = "services.fleet.serve needs package, and either file or source.remote: which fleet it serves, and with which program.";
      }
      {
        assertion = follows || lib.hasPrefix "/" (toString cfg.file);
        message = "services.fleet.serve.file is ${toString cfg.file}: it has to begin with /, since a service has no folder of yours.";
      }
      {
        assertion = (cfg.certificate != null) == (cfg.key != null);
        message = "services.fleet.serve.certificate and key belong together: set both, or neither.";
      }
      {
        assertion = !lib.elem "fleet-evaluate" config.nix.settings.trusted-users && !lib.elem "*" config.nix.settings.trusted-users;
        message = "services.fleet.serve evaluates what others wrote as fleet-evaluate, whom nix.settings.trusted-users trusts: take it out.";
      }
    ];

    users.users.fleet-serve = {
      isSystemUser = true;
      group = "fleet-serve";
      home = "/var/lib/fleet-serve";
    };
    users.groups.fleet-serve = { };
    # It may read what is followed, and has nothing of its own but a cache.
    users.users.fleet-evaluate = {
      isSystemUser = true;
      group = "fleet-evaluate";
      extraGroups = [ "fleet-serve" ];
    };
    users.groups.fleet-evaluate = { };
    # The repository belongs to another user, whom git trusts for nobody else.
    environment.etc."fleet-evaluate/.gitconfig".text = ''
      [safe]
        directory = *
    '';

    systemd.services.fleet-serve = base // {
      description = "Show the fleet in a browser, and answer agents";
      serviceConfig = owned // {
        ExecStart = "${program} serve ${lib.escapeShellArgs flags}";
        LoadCredential = lib.optionals (cfg.certificate != null) [
          "certificate:${toString cfg.certificate}"
          "key:${toString cfg.key}"
        ];
        Restart = "on-failure";
        RestartSec = 10;
        # What agents have begun goes on, and is seen through.
        KillMode = "process";
      };
    };

    systemd.services.fleet-serve-deliver = lib.mkIf cfg.deliver (base // {
      description = "Bring hosts what they have missed while they were away";
      serviceConfig = owned // {
        ExecStart = "${program} deliver --watch --file ${lib.escapeShellArg file}";
        Restart = "on-failure";
        RestartSec = 30;
        # Hosts that have begun to switch are proven or go back first.
        KillMode = "mixed";
        TimeoutStopSec = "15min";
      };
      # A delivery to this very machine would wait for itself otherwise.
      restartIfChanged = false;
    });

    systemd.sockets.fleet-evaluate = {
      description = "Evaluations for fleet-serve";
      wantedBy = [ "sockets.target" ];
      socketConfig = {
        ListenStream = "/run/fleet-evaluate.sock";
        SocketUser = "fleet-serve";
        SocketGroup = "fleet-serve";
        SocketMode = "0600";
        Accept = true;
        MaxConnections = cfg.evaluation.atOnce;
      };
    };
    systemd.services."fleet-evaluate@" = {
      description = "One evaluation for fleet-serve";
      path = [
        config.nix.package
        pkgs.git
      ];
      environment = {
        HOME = "/etc/fleet-evaluate";
        XDG_CACHE_HOME = "/var/cache/fleet-evaluate";
      };
      unitConfig.CollectMode = "inactive-or-failed";
      serviceConfig = hardened // {
        User = "fleet-evaluate";
        Group = "fleet-evaluate";
        CacheDirectory = "fleet-evaluate";
        CacheDirectoryMode = "0700";
        ExecStart = "${program} serve --evaluate";
        StandardInput = "socket";
        StandardOutput = "socket";
        StandardError = "journal";
        MemoryMax = cfg.evaluation.memory;
        MemorySwapMax = "0";
        RuntimeMaxSec = cfg.evaluation.time;
        TasksMax = 256;
        OOMPolicy = "kill";
        OOMScoreAdjust = 500;
        InaccessiblePaths = "-/var/lib/fleet-serve";
      };
    };

    systemd.services.fleet-serve-source = lib.mkIf follows {
      description = "Follow the branch that the fleet is read from";
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      path = [
        config.programs.ssh.package
        pkgs.git
      ];
      environment = {
        HOME = "/var/lib/fleet-serve";
        REMOTE = toString cfg.source.remote;
        BRANCH = cfg.source.branch;
        GIT_TERMINAL_PROMPT = "0";
      };
      script = builtins.readFile ./lib/follow-branch.sh;
      serviceConfig = hardened // {
        Type = "oneshot";
        User = "fleet-serve";
        Group = "fleet-serve";
        StateDirectory = "fleet-source";
        StateDirectoryMode = "0750";
        UMask = "0027";
        TimeoutStartSec = "5min";
      };
    };
    systemd.timers.fleet-serve-source = lib.mkIf follows {
      description = "Follow the branch that the fleet is read from";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnBootSec = "10s";
        OnUnitInactiveSec = cfg.source.every;
      };
    };
  };
}
