# Sandboxes: what runs in one reaches the addresses that are named, sees the packages that are named, and is gone when its time is over.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  cfg = config.services.fleet.sandbox;
  inherit (lib) mkOption types;

  runs = "/run/fleet-sandboxes";
  hasMicrovms = options ? microvm && options.microvm ? vms;

  # --- what follows from a name: the same everywhere, and on every day ---

  digest = name: builtins.hashString "sha256" "fleet sandbox ${name}";
  byte = at: name: builtins.substring (2 * at) 2 (digest name);
  # Of 32768 pairs of addresses, one is the sandbox's: that of the host is even.
  indexOf = name: sandbox: if sandbox.index != null then sandbox.index else lib.mod (lib.fromHexString (builtins.substring 0 4 (digest name))) 32768;
  derived =
    name: sandbox:
    let
      first = 2 * indexOf name sandbox;
      at = number: "${cfg.network}.${toString (number / 256)}.${toString (lib.mod number 256)}";
    in
    {
      tap = "fs-${builtins.substring 0 10 (digest name)}";
      mac = lib.concatStringsSep ":" ([ "02" ] ++ map (at: byte at name) [ 5 6 7 8 9 ]);
      host = at first;
      address = at (first + 1);
    };

  # --- what may be reached ---

  port = "(:([1-9][0-9]{0,4}))?";
  anAddress = "([0-9]{1,3}(\\.[0-9]{1,3}){3}(/[0-9]{1,2})?)${port}";
  aName = "([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)+)${port}";
  destination = types.strMatching "${anAddress}|${aName}" // {
    description = "IPv4 address, network or name, and a port unless it is 443, such as api.example.org or 192.0.2.7:8080";
  };
  portOf = text: let found = builtins.match ".*:([0-9]+)" text; in if found == null then "443" else builtins.head found;
  placeOf = text: builtins.head (lib.splitString ":" text);
  isAddress = text: builtins.match anAddress text != null;
  isNumbers = text: lib.all (part: lib.toIntBase10 part < 256) (lib.splitString "." (builtins.head (lib.splitString "/" (placeOf text))));
  widthOf = text: let parts = lib.splitString "/" (placeOf text); in if lib.length parts == 1 then 32 else lib.toIntBase10 (lib.last parts);
  wrong = text: lib.toIntBase10 (portOf text) > 65535 || (isAddress text && !(isNumbers text && widthOf text <= 32));

  seconds =
    text:
    let
      units = { s = 1; min = 60; h = 3600; d = 86400; };
      found = builtins.match "([0-9]+)(s|min|h|d)" text;
    in
    lib.toIntBase10 (builtins.head found) * units.${lib.last found};

  # --- one sandbox ---

  sandboxType = types.submodule {
    options = {
      backend = mkOption {
        type = types.enum [ "systemd" "microvm" ];
        default = "systemd";
        description = ''
          What holds it: `systemd` is a unit with namespaces and filters of the kernel of this host, `microvm` a virtual
          machine with a kernel of its own, by microvm.nix, whose `nixosModules.host` has to be imported.
        '';
      };
      command = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "claude" "--dangerously-skip-permissions" ];
        description = "What runs in it. Without one it is there for {command}`fleet sandbox ssh`.";
      };
      packages = mkOption {
        type = types.listOf types.package;
        default = [ ];
        description = "What is there of the Nix store, with all that it needs, and nothing else.";
      };
      readOnly = mkOption {
        type = types.listOf (types.strMatching "/[^: \n]+");
        default = [ ];
        example = [ "/srv/datasets" ];
        description = "Files and folders of the host that can be read in it, at the same place.";
      };
      workspace = mkOption {
        type = types.nullOr (types.strMatching "/[^: \n]+");
        default = null;
        example = "/srv/work/site";
        description = "A folder of the host that is {file}`/work` in it, for reading and writing. It outlives the sandbox.";
      };
      ephemeral = mkOption {
        type = types.bool;
        default = true;
        description = "Whether what it writes is in memory, and gone when it ends. Else it is on disk until {command}`fleet sandbox reset`.";
      };
      size = mkOption {
        type = types.strMatching "[1-9][0-9]*[MG]";
        default = "1G";
        description = "How much an ephemeral sandbox can write.";
      };
      user = mkOption {
        type = types.nullOr (types.strMatching "[a-z_][a-z0-9_-]*");
        default = null;
        description = "The user as whom everything in it runs; null for one that is there as long as the sandbox is.";
      };
      egress = mkOption {
        type = types.listOf destination;
        default = [ ];
        example = [ "api.anthropic.com" "192.0.2.7:8080" ];
        description = ''
          What can be reached from it, by TCP over IPv4. Nothing else can: not this host, not its network, no server for
          names. Names are looked up by the host every minute; where one leads to an address of a private network, that
          counts only if it is named as an address too.
        '';
      };
      credentials = mkOption {
        type = types.attrsOf (types.strMatching "/[^: \n]+");
        default = { };
        example = { token = "/run/secrets/agent-token"; };
        description = "Files of the host that can be read in {file}`$CREDENTIALS_DIRECTORY`, by the names that they have there.";
      };
      environment = mkOption {
        type = types.attrsOf (types.strMatching "[^\n\"\\\\%$]*");
        default = { };
        description = "Variables for what runs in it. They are in the store, so they are for nothing that is secret.";
      };
      sockets = mkOption {
        type = types.listOf (types.strMatching "/[^: \n]+/[^/: \n]+");
        default = [ ];
        example = [ "/run/fleet-mcp/claude/socket" ];
        description = ''
          Sockets of services of this host that can be used in it, with the folders that they are in. What such a service does for
          it, it does outside: {command}`fleet sandbox prove` names each.
        '';
      };
      ttl = mkOption {
        type = types.strMatching "[1-9][0-9]*(s|min|h|d)";
        default = "8h";
        description = "When it ends, counted from its start.";
      };
      memory = mkOption {
        type = types.strMatching "[1-9][0-9]*[MG]";
        default = "2G";
        description = "How much memory it may take. What it writes counts, where that is in memory.";
      };
      cpus = mkOption {
        type = types.ints.positive;
        default = 2;
        description = "How many processors it may keep busy.";
      };
      tasks = mkOption {
        type = types.ints.between 128 1000000;
        default = 512;
        description = "How many processes and threads it may have. The probes need a hundred.";
      };
      requireLimits = mkOption {
        type = types.bool;
        default = true;
        description = "Whether it is not proven, and does not start, where the kernel cannot limit memory and processes.";
      };
      nixDaemon = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether Nix can be used in it. Then the whole store can be read, and what the daemon of this host builds for it may
          fetch from anywhere: {option}`egress` does not hold for that. `fleet sandbox prove` says so.
        '';
      };
      autostart = mkOption {
        type = types.bool;
        default = false;
        description = "Whether it starts with the host.";
      };
      index = mkOption {
        type = types.nullOr (types.ints.between 0 32767);
        default = null;
        description = "Which pair of addresses it has. It follows from the name, unless two names give the same.";
      };
      authorizedKeys = mkOption {
        type = types.listOf types.singleLineStr;
        default = [ ];
        description = "Keys of root on this host that log in to the microVM, for {command}`fleet sandbox ssh`.";
      };
      hypervisor = mkOption {
        type = types.str;
        default = "cloud-hypervisor";
        description = "What runs the microVM: one of those that microvm.nix has.";
      };
    };
  };
  all = cfg.sandboxes;
  bySystemd = lib.filterAttrs (_: sandbox: sandbox.backend == "systemd") all;
  byMicrovm = lib.filterAttrs (_: sandbox: sandbox.backend == "microvm") all;

  workOf =
    name: sandbox:
    if sandbox.workspace != null then sandbox.workspace
    else if sandbox.ephemeral then "${runs}/${name}/work"
    else "/var/lib/fleet-sandboxes/${name}";
  # Units with this user at the same time have the same number. The first of them is that which makes the folders.
  userOf = name: sandbox: {
    User = if sandbox.user != null then sandbox.user else (derived name sandbox).tap;
    DynamicUser = sandbox.user == null;
  };
  box = "${pkgs.busybox}/bin/busybox";
  bundle = "${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt";
  pathOf = sandbox: "${lib.makeBinPath (sandbox.packages ++ lib.optional sandbox.nixDaemon config.nix.package ++ [ pkgs.busybox ])}:/usr/bin:/bin";
  storeOf = sandbox: pkgs.closureInfo { rootPaths = sandbox.packages ++ [ pkgs.busybox pkgs.cacert ]; };

  # Whatever runs in it runs with all of these: the command, the probes, and who comes by `fleet sandbox ssh`.
  holds = name: sandbox: userOf name sandbox // {
    RootDirectory = "${runs}/${name}/root";
    MountAPIVFS = true;
    BindLogSockets = false;
    BindReadOnlyPaths =
      [ "${runs}/${name}/etc:/etc" "${runs}/${name}/facts:/run/fleet-sandbox/facts" "${cfg.probe}:/run/fleet-sandbox/probe" ]
      ++ lib.optionals (!lib.elem "/usr" sandbox.readOnly) [ "${box}:/bin/sh" "${box}:/usr/bin/env" ]
      ++ lib.optionals sandbox.nixDaemon [ "/nix/store" "/nix/var/nix/daemon-socket" ]
      ++ map dirOf sandbox.sockets
      ++ sandbox.readOnly;
    BindPaths = [ "${workOf name sandbox}:/work" ];
    NetworkNamespacePath = "/run/netns/fleet-${(derived name sandbox).tap}";
    WorkingDirectory = "/work";
    Environment =
      [ "HOME=/work" "PATH=${pathOf sandbox}" "SSL_CERT_FILE=${bundle}" "NIX_SSL_CERT_FILE=${bundle}" ]
      ++ lib.optional sandbox.nixDaemon "NIX_REMOTE=daemon"
      ++ lib.mapAttrsToList (key: value: "\"${key}=${value}\"") sandbox.environment;
    LoadCredential = lib.mapAttrsToList (id: path: "${id}:${path}") sandbox.credentials;
    InaccessiblePaths = [ "-+/sys" "-+/dev/mqueue" "-+/dev/hugepages" ];
    # PrivateDevices= leaves that of the host there.
    TemporaryFileSystem = "/dev/shm:nosuid,nodev,mode=1777,size=${sandbox.memory}";
    PrivateTmp = "disconnected"; # in memory, and so limited
    PrivateDevices = true;
    PrivateIPC = true;
    PrivatePIDs = true;
    PrivateMounts = true;
    ProtectSystem = "strict";
    ProtectHome = true;
    ProtectProc = "invisible";
    ProcSubset = "pid";
    ProtectKernelTunables = true;
    ProtectKernelModules = true;
    ProtectKernelLogs = true;
    ProtectControlGroups = true;
    ProtectClock = true;
    ProtectHostname = true;
    NoNewPrivileges = true;
    RestrictSUIDSGID = true;
    RestrictRealtime = true;
    RestrictNamespaces = true;
    LockPersonality = true;
    RestrictAddressFamilies = "AF_UNIX AF_INET";
    CapabilityBoundingSet = "";
    AmbientCapabilities = "";
    # What io_uring does, no filter of system calls sees.
    SystemCallFilter = [ "@system-service" "~@privileged @resources io_uring_setup io_uring_enter io_uring_register" ];
    SystemCallErrorNumber = "EPERM";
    SystemCallArchitectures = "native";
    KeyringMode = "private";
    UMask = "0077";
    DevicePolicy = "closed";
    MemoryMax = sandbox.memory;
    MemorySwapMax = 0;
    CPUQuota = "${toString (100 * sandbox.cpus)}%";
    TasksMax = sandbox.tasks;
    OOMPolicy = "kill";
  };
  probing = "${box} sh /run/fleet-sandbox/probe /run/fleet-sandbox/facts ${box}";
  entry = pkgs.writeScript "fleet-sandbox" ''
    #!/bin/sh
    PATH=${lib.makeBinPath [ pkgs.iproute2 pkgs.nftables pkgs.util-linux pkgs.gawk pkgs.getent ]}:$PATH:/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin
    export PATH
    exec ${cfg.program} "$@"
  '';
  call = verb: name: "${entry} ${verb} ${name}";
  # Words of a command as systemd reads them: no variable, no specifier.
  quoted = words: lib.concatMapStringsSep " " (word: lib.replaceStrings [ "%" "$" ] [ "%%" "$$" ] (builtins.toJSON word)) words;
  commandOf = sandbox: quoted ([ box ] ++ (if sandbox.command == [ ] then [ "tail" "-f" "/dev/null" ] else [ "env" "--" ] ++ sandbox.command));

  # What the program reads: fleet/sandbox/program/main.sh.
  declaration =
    name: sandbox:
    let
      it = derived name sandbox;
      split = lib.partition isAddress sandbox.egress;
      line = key: text: "${key} ${placeOf text} ${portOf text}";
      shown = value: if builtins.isBool value then lib.boolToYesNo value else toString value;
      each = key: value: map (one: "property ${key}=${shown one}") (lib.toList value);
    in
    lib.concatLines (
      [
        "fleet-sandbox v1"
        "backend ${sandbox.backend}"
        "tap ${it.tap}"
        "mac ${it.mac}"
        "host ${it.host}"
        "address ${it.address}"
        "work ${workOf name sandbox}"
        "keeps ${lib.boolToYesNo (sandbox.workspace != null || !sandbox.ephemeral)}"
        "size ${sandbox.size}"
        "ttl ${toString (seconds sandbox.ttl)}"
        "nix ${lib.boolToYesNo sandbox.nixDaemon}"
        "limits ${lib.boolToYesNo sandbox.requireLimits}"
        "shell ${box}"
      ]
      ++ map (line "allow") split.right
      ++ map (line "resolve") split.wrong
      ++ map (path: "opens ${path}") (lib.optional sandbox.nixDaemon "/nix/var/nix/daemon-socket/socket" ++ sandbox.sockets)
      ++ map (id: "credential ${id}") (lib.attrNames sandbox.credentials)
      ++ lib.optionals (sandbox.backend == "systemd") (lib.concatLists (lib.mapAttrsToList each (holds name sandbox)))
    );

  # --- units ---

  # A unit with a user of its own has its own mounts. What it mounts is for others.
  among = "${pkgs.util-linux}/bin/nsenter --target 1 --mount";

  setupOf = name: sandbox: {
    description = "Network and folders of the sandbox ${name}";
    wants = lib.optional (lib.any (text: !isAddress text) sandbox.egress) "fleet-sandbox-${name}-names.timer";
    unitConfig.StopWhenUnneeded = true;
    serviceConfig = lib.optionalAttrs (sandbox.backend == "systemd") (userOf name sandbox) // {
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = "+${among} ${call "setup" name}";
      ExecStopPost = "+${among} ${call "teardown" name}";
    };
  };
  unitsOf = name: sandbox: {
    "fleet-sandbox-${name}-setup" = setupOf name sandbox;
    "fleet-sandbox-${name}-end" = {
      description = "The time of the sandbox ${name} is over";
      restartIfChanged = false;
      serviceConfig = {
        Type = "oneshot";
        ExecStart = call "end" name;
      };
    };
    "fleet-sandbox-${name}-names" = {
      description = "Look the names up that the sandbox ${name} may reach";
      restartIfChanged = false;
      serviceConfig = {
        Type = "oneshot";
        ExecStart = call "names" name;
      };
    };
  };
  heldUnitsOf = name: sandbox: {
    "fleet-sandbox-${name}" = {
      description = "Sandbox ${name}";
      wantedBy = lib.optional sandbox.autostart "multi-user.target";
      bindsTo = [ "fleet-sandbox-${name}-setup.service" ];
      requires = [ "fleet-sandbox-${name}-end.timer" ];
      after = [ "fleet-sandbox-${name}-setup.service" "network.target" ];
      serviceConfig = holds name sandbox // {
        Type = "exec";
        # Nothing runs in it before it is proven that it holds: the probe becomes the command. Systemd may lose the status of
        # what ExecStartPre= runs in a PID namespace.
        ExecStart = "${probing} ${commandOf sandbox}";
        KillSignal = if sandbox.command == [ ] then "SIGKILL" else "SIGTERM";
        TimeoutStartSec = "2min";
        TimeoutStopSec = "10s";
      };
    };
    "fleet-sandbox-${name}-prove" = {
      description = "Try to leave the sandbox ${name}";
      bindsTo = [ "fleet-sandbox-${name}-setup.service" ];
      after = [ "fleet-sandbox-${name}-setup.service" ];
      restartIfChanged = false;
      serviceConfig = holds name sandbox // {
        Type = "oneshot";
        # What came of it is in the file, and until that is read, the network stays.
        ExecStart = "-${probing}";
        RemainAfterExit = true;
        StandardOutput = "append:/run/fleet-sandbox-proofs/${name}";
        TimeoutStartSec = "2min";
      };
    };
  };
  timersOf = name: sandbox: {
    "fleet-sandbox-${name}-end" = {
      description = "When the sandbox ${name} ends";
      partOf = [ (if sandbox.backend == "systemd" then "fleet-sandbox-${name}.service" else "microvm@${name}.service") ];
      timerConfig = {
        OnActiveSec = "${toString (seconds sandbox.ttl)}s";
        AccuracySec = "1s";
      };
    };
    "fleet-sandbox-${name}-names" = {
      description = "When to look names up for the sandbox ${name}";
      partOf = [ "fleet-sandbox-${name}-setup.service" ];
      timerConfig = {
        OnActiveSec = "60s";
        OnUnitActiveSec = "60s";
        AccuracySec = "5s";
      };
    };
  };

  # Of the store each sandbox sees what its packages need. That is known when it is built, and not before.
  storeUnits =
    name: sandbox:
    pkgs.runCommand "fleet-sandbox-${name}-store" { } ''
      for unit in fleet-sandbox-${name} fleet-sandbox-${name}-prove; do
        mkdir -p "$out/lib/systemd/system/$unit.service.d"
        { echo '[Service]'; sed 's/^/BindReadOnlyPaths=/' ${storeOf sandbox}/store-paths; } >"$out/lib/systemd/system/$unit.service.d/store.conf"
      done
    '';

  guest = name: sandbox: {
    networking = {
      useDHCP = false;
      useNetworkd = true;
      nameservers = [ ];
    };
    systemd.network.networks."10-fleet" = {
      matchConfig.MACAddress = (derived name sandbox).mac;
      address = [ "${(derived name sandbox).address}/31" ];
      routes = [ { Gateway = (derived name sandbox).host; } ];
    };
    environment.systemPackages = sandbox.packages;
    users.users.agent = {
      isNormalUser = true;
      home = "/work";
      openssh.authorizedKeys.keys = sandbox.authorizedKeys;
    };
    services.openssh = {
      enable = true;
      settings.PasswordAuthentication = false;
      settings.PermitRootLogin = "no";
    };
    nix.enable = false;
    microvm = {
      inherit (sandbox) hypervisor;
      vcpu = sandbox.cpus;
      mem = let number = lib.toIntBase10 (lib.substring 0 (lib.stringLength sandbox.memory - 1) sandbox.memory); in
        if lib.hasSuffix "G" sandbox.memory then 1024 * number else number;
      interfaces = [
        {
          type = "tap";
          id = (derived name sandbox).tap;
          inherit (derived name sandbox) mac;
        }
      ];
      # Without a share of the host's store it gets an image with what it needs, and sees nothing else of that.
      shares = lib.optional (sandbox.workspace != null || !sandbox.ephemeral) {
        proto = "virtiofs";
        tag = "work";
        source = workOf name sandbox;
        mountPoint = "/work";
      };
      volumes = [ ];
    }
    // lib.optionalAttrs (sandbox.credentials != { }) { credentialFiles = sandbox.credentials; };
  };
  # microvm.nix makes the unit and its link; the rules stand before that.
  vmUnitsOf = name: _: {
    "microvm@${name}" = {
      overrideStrategy = "asDropin";
      bindsTo = [ "fleet-sandbox-${name}-setup.service" ];
      requires = [ "fleet-sandbox-${name}-end.timer" ];
      after = [ "fleet-sandbox-${name}-setup.service" ];
      serviceConfig.ExecStartPre = "+${call "link" name}";
    };
    "fleet-sandbox-${name}-setup".before = [ "microvm-tap-interfaces@${name}.service" ];
  };

  whole = [ "/" "/etc" "/home" "/nix" "/nix/store" "/proc" "/root" "/run" "/sys" "/var" ];
  isWhole = path: lib.elem (if path == "/" then path else lib.removeSuffix "/" path) whole;
  pairs = lib.groupBy (name: (derived name all.${name}).address) (lib.attrNames all);
  each = test: lib.concatStringsSep ", " (lib.attrNames (lib.filterAttrs test all));
in
{
  options.services.fleet.sandbox = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = "Whether this host has sandboxes. None starts by itself unless it says so: {command}`fleet sandbox up HOST/NAME`.";
    };
    sandboxes = mkOption {
      type = types.attrsOf sandboxType;
      default = { };
      example = lib.literalExpression ''
        { claude = { packages = [ pkgs.git ]; egress = [ "api.anthropic.com" ]; credentials.token = "/run/secrets/token"; }; }
      '';
      description = "The sandboxes, by their names. Addresses and names of links follow from these.";
    };
    network = mkOption {
      type = types.strMatching "[0-9]{1,3}\\.[0-9]{1,3}";
      default = "198.18";
      description = "The first half of the addresses of all sandboxes of this host. No network that it speaks to may have them.";
    };
    program = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = lib.literalExpression ''pkgs.writeScript "fleet-sandbox-program" (import ./fleet/sandbox/program)'';
      description = "What makes sandboxes and proves them, from fleet's source. The modules of its flake set it.";
    };
    probe = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = lib.literalExpression "./fleet/sandbox/scripts/probe.sh";
      description = "What tries to leave a sandbox from within, from fleet's source. The modules of its flake set it.";
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge (
      [
        {
          assertions = [
            {
              assertion = cfg.program != null && cfg.probe != null;
              message = ''
                services.fleet.sandbox.program or services.fleet.sandbox.probe is not set: take the folder fleet/sandbox of fleet's
                source, and set pkgs.writeScript "fleet-sandbox-program" (import ./fleet/sandbox/program) and
                ./fleet/sandbox/scripts/probe.sh, or import nixosModules.sandbox of its flake, which does that.
              '';
            }
            {
              assertion = lib.all (name: builtins.match "[a-z][a-z0-9-]{0,30}" name != null) (lib.attrNames all);
              message = "A name in services.fleet.sandbox.sandboxes is not of small letters, digits and '-', 31 at most, with a letter first.";
            }
            {
              assertion = lib.all (names: lib.length names == 1) (lib.attrValues pairs);
              message = ''
                These names in services.fleet.sandbox.sandboxes lead to the same addresses: ${
                  lib.concatMapStringsSep "; " toString (lib.filter (names: lib.length names > 1) (lib.attrValues pairs))
                }. Set index of one of them, or rename it.
              '';
            }
            {
              assertion = lib.all (sandbox: !lib.any wrong sandbox.egress) (lib.attrValues all);
              message = "services.fleet.sandbox.sandboxes: egress of ${each (_: sandbox: lib.any wrong sandbox.egress)} has a number that is too big.";
            }
            {
              assertion = lib.all (sandbox: !lib.any (lib.hasPrefix builtins.storeDir) (lib.attrValues sandbox.credentials)) (lib.attrValues all);
              message = ''
                A credential of ${each (_: sandbox: lib.any (lib.hasPrefix builtins.storeDir) (lib.attrValues sandbox.credentials))} in services.fleet.sandbox.sandboxes is in the
                Nix store, where everybody can read it: name a file that `[hosts.NAME.secrets]` of fleet.toml brings.
              '';
            }
            {
              assertion = lib.all (sandbox: sandbox.user != "root") (lib.attrValues all);
              message = "services.fleet.sandbox.sandboxes: root could leave ${each (_: sandbox: sandbox.user == "root")}: leave user out.";
            }
            {
              assertion = lib.all (sandbox: !lib.any isWhole ([ (toString sandbox.workspace) ] ++ sandbox.readOnly)) (lib.attrValues all);
              message = ''
                services.fleet.sandbox.sandboxes: ${each (_: sandbox: lib.any isWhole ([ (toString sandbox.workspace) ] ++ sandbox.readOnly))} would see all
                of ${toString whole} or the like of this host: name a folder below.
              '';
            }
            {
              assertion = byMicrovm == { } || hasMicrovms;
              message = ''
                services.fleet.sandbox.sandboxes: ${toString (lib.attrNames byMicrovm)} has backend = "microvm", and this configuration does not
                know microvm.nix: add nixosModules.host of that flake to the modules of this host.
              '';
            }
            {
              assertion = lib.all (
                sandbox: !sandbox.nixDaemon && sandbox.readOnly == [ ] && sandbox.command == [ ] && sandbox.user == null
              ) (lib.attrValues byMicrovm);
              message = ''
                services.fleet.sandbox.sandboxes: a microVM takes no readOnly, nixDaemon, command and user from here: put what it needs
                into its workspace, or set microvm.vms.NAME.config beside this.
              '';
            }
            {
              assertion = lib.all (sandbox: sandbox.credentials == { } || sandbox.hypervisor == "qemu") (lib.attrValues byMicrovm);
              message = ''
                services.fleet.sandbox.sandboxes: microvm.nix hands credentials to qemu alone: set hypervisor = "qemu" for
                ${toString (lib.attrNames (lib.filterAttrs (_: sandbox: sandbox.credentials != { }) byMicrovm))}.
              '';
            }
          ];

          environment.etc = lib.mkMerge (
            [ { "fleet/sandbox".source = entry; } ]
            ++ lib.mapAttrsToList (name: sandbox: {
              "fleet/sandboxes/${name}".text = declaration name sandbox;
            }) all
            ++ lib.mapAttrsToList (name: sandbox: {
              "fleet/sandboxes/${name}.store".source = "${storeOf sandbox}/store-paths";
            }) bySystemd
          );
          systemd.packages = lib.mapAttrsToList storeUnits bySystemd;
          systemd.services = lib.mkMerge (lib.mapAttrsToList unitsOf all ++ lib.mapAttrsToList heldUnitsOf bySystemd ++ lib.mapAttrsToList vmUnitsOf byMicrovm);
          systemd.timers = lib.mkMerge (lib.mapAttrsToList timersOf all);
        }
      ]
      ++ lib.optional hasMicrovms {
        microvm.vms = lib.mapAttrs (name: sandbox: {
          inherit (sandbox) autostart;
          config = guest name sandbox;
        }) byMicrovm;
      }
    )
  );
}
