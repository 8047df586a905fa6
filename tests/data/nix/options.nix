# Stand-ins for NixOS, as strict as NixOS is: its options that modules/ sets or reads, each with its name, type and default;
# what it makes of them where another option sees that; and its own assertions, in its own order. What is not here does
# not exist, so that a wrong name is an error here too. Written from the documentation of the options.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  of = type: default: mkOption { inherit type default; };
  bool = of types.bool;
  str = of types.str "";
  strings = of (types.listOf types.str) [ ];
  nullOr = type: of (types.nullOr type) null;

  # Values of nix.conf and the like: no lists of lists, no sets.
  atom = types.nullOr (types.oneOf [ types.bool types.int types.float types.str types.path types.package ]);
  orList = type: types.either type (types.listOf type);
  unitOption = types.oneOf [ types.bool types.int types.float types.str types.path ];
  unitOptions = of (types.attrsOf (orList unitOption)) { };
  unitName = types.strMatching "[a-zA-Z0-9@%:_.\\-]+[.](service|socket|device|mount|automount|swap|target|path|timer|scope|slice)";

  unit = extra: types.submodule {
    options = {
      enable = bool true;
      description = of types.singleLineStr "";
      wantedBy = of (types.listOf unitName) [ ];
      wants = of (types.listOf unitName) [ ];
      after = of (types.listOf unitName) [ ];
      before = of (types.listOf unitName) [ ];
      bindsTo = of (types.listOf unitName) [ ];
      partOf = of (types.listOf unitName) [ ];
      requires = of (types.listOf unitName) [ ];
      requiredBy = of (types.listOf unitName) [ ];
      overrideStrategy = of (types.enum [ "asDropinIfExists" "asDropin" ]) "asDropinIfExists";
      unitConfig = unitOptions;
    } // extra;
  };
  serviceOptions = {
    environment = of (types.attrsOf (types.nullOr (types.oneOf [ types.str types.path types.package ]))) { };
    path = of (types.listOf (types.oneOf [ types.package types.str ])) [ ];
    script = of types.lines "";
    serviceConfig = unitOptions;
    restartIfChanged = bool true;
    enableStrictShellChecks = bool false;
  };

  # nixpkgs.config is no submodule: definitions are merged key by key as they are, and a mkIf among the keys stays one.
  nixpkgsConfig = lib.mkOptionType {
    name = "nixpkgs-config";
    description = "nixpkgs config";
    check = value: builtins.isAttrs value || lib.isFunction value;
    merge = _: definitions:
      let
        sets = map (definition: if lib.isFunction definition.value then definition.value { inherit lib pkgs; } else definition.value) definitions;
        join = _: values: if builtins.isList (builtins.head values) then lib.concatLists values else builtins.head values;
      in
      lib.zipAttrsWith join sets;
  };
  overlay = lib.mkOptionType { name = "nixpkgs-overlay"; check = lib.isFunction; merge = lib.mergeOneOption; };

  nvidia = config.hardware.nvidia;
  usesNvidia = builtins.elem "nvidia" config.services.xserver.videoDrivers;
  isPrivileged = name: user: name == "root" || user.group == "wheel" || builtins.elem "wheel" user.extraGroups;
  canLogIn = user: user.openssh.authorizedKeys.keys != [ ] || user.hashedPassword != null || user.hashedPasswordFile != null;
  # Of the foreign systems, each has a name that the kernel knows; the host's own is refused before anything is said.
  registrations = map
    (system: assert system != pkgs.stdenv.hostPlatform.system; { fixBinary = false; wrapInterpreterInShell = true; })
    config.boot.binfmt.emulatedSystems;
in
{
  options = {
    assertions = of (types.listOf types.unspecified) [ ];
    warnings = strings;

    system.systemBuilderArgs = of (types.attrsOf types.unspecified) { };

    networking.hostName = mkOption {
      type = types.strMatching "^$|^[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?$";
      default = "nixos";
    };
    networking.firewall.allowedUDPPorts = of (types.listOf (types.ints.between 0 65535)) [ ];
    networking.wireguard.useNetworkd = bool false;
    networking.wireguard.interfaces = of (types.attrsOf (types.submodule {
      options = {
        ips = strings;
        privateKey = nullOr types.str;
        privateKeyFile = nullOr types.path;
        listenPort = nullOr types.int;
        peers = of (types.listOf (types.submodule {
          options = {
            publicKey = mkOption { type = types.singleLineStr; };
            presharedKey = nullOr types.str;
            presharedKeyFile = nullOr types.str;
            allowedIPs = mkOption { type = types.listOf types.str; };
            endpoint = nullOr types.str;
            persistentKeepalive = nullOr types.int;
          };
        })) [ ];
      };
    })) { };
    nixpkgs = {
      pkgs = mkOption { type = types.raw; };                    # neither has a default: to read it is an error
      hostPlatform = mkOption { type = types.either types.str types.attrs; apply = lib.systems.elaborate; };
      config = of nixpkgsConfig { };
      overlays = of (types.listOf overlay) [ ];
    };

    boot.binfmt.emulatedSystems = of
      (types.listOf (types.enum [ "aarch64-linux" "armv7l-linux" "i686-linux" "riscv64-linux" "wasm32-wasi" "x86_64-linux" "x86_64-windows" ])) [ ];
    boot.kernelParams = of (types.listOf (types.strMatching ''([^"[:space:]]|"[^"]*")+'')) [ ];
    boot.loader.generic-extlinux-compatible.configurationLimit = of types.int 20;
    boot.loader.grub.configurationLimit = of types.int 100;
    boot.loader.limine.maxGenerations = of (types.nullOr types.int) null;
    boot.loader.systemd-boot.configurationLimit = of (types.nullOr types.int) null;

    hardware.graphics.enable = bool false;
    hardware.nvidia = {
      open = nullOr types.bool;
      nvidiaPersistenced = bool false;
      datacenter.enable = bool false;
      branch = of (types.enum (builtins.attrNames pkgs.linuxPackages.nvidiaPackages)) "stable";
      package = of types.raw pkgs.linuxPackages.nvidiaPackages.${nvidia.branch};
    };
    services.postgresql = {
      enable = bool false;
      ensureDatabases = strings;
      ensureUsers = of (types.listOf (types.submodule {
        options = { name = mkOption { type = types.str; }; ensureDBOwnership = bool false; };
      })) [ ];
      enableTCPIP = bool false;
      authentication = of types.lines "";
      settings = of (types.attrsOf (types.nullOr (types.oneOf [ types.bool types.float types.int types.str ]))) { };
    };
    services.xserver.videoDrivers = of (types.listOf types.str) [ "modesetting" "fbdev" ];

    nix = {
      enable = bool true;
      package = of types.package pkgs.nix;
      settings = mkOption {
        default = { };
        type = types.submodule {
          freeformType = types.attrsOf (orList atom);
          options = {
            require-sigs = bool true;
            substituters = strings;
            trusted-public-keys = strings;
            trusted-users = of (types.listOf types.str) [ "root" ];
            max-jobs = of (types.either types.int (types.enum [ "auto" ])) "auto";
          };
        };
      };
      gc.automatic = bool false;
      gc.options = of types.singleLineStr "";
      sshServe = {
        enable = bool false;
        write = bool false;
        trusted = bool false;
        protocol = of (types.enum [ "ssh" "ssh-ng" ]) "ssh";
        keys = strings;
      };
      daemonCPUSchedPolicy = of (types.enum [ "other" "batch" "idle" ]) "other";
      daemonIOSchedClass = of (types.enum [ "best-effort" "idle" ]) "best-effort";
      distributedBuilds = bool false;
      buildMachines = of (types.listOf (types.submodule {
        options = {
          hostName = mkOption { type = types.str; };
          protocol = of (types.enum [ null "ssh" "ssh-ng" ]) "ssh";
          system = nullOr types.str;
          systems = strings;
          sshUser = nullOr types.str;
          sshKey = nullOr types.str;
          maxJobs = of types.int 1;
          speedFactor = of types.int 1;
          mandatoryFeatures = strings;
          supportedFeatures = strings;
          publicHostKey = nullOr types.str;
        };
      })) [ ];
    };
    programs.ssh.package = of types.package pkgs.openssh;
    programs.ssh.knownHosts = of (types.attrsOf (types.submodule ({ name, ... }: {
      options = {
        certAuthority = bool false;
        hostNames = of (types.listOf types.str) [ name ];
        publicKey = nullOr types.str;
        publicKeyFile = nullOr types.path;
      };
    }))) { };

    environment.etc = of (types.attrsOf (types.submodule {
      options = { text = nullOr types.lines; source = nullOr types.path; mode = of types.str "symlink"; };
    })) { };
    users.mutableUsers = bool true;
    users.allowNoPasswordLogin = bool false;
    users.users = of (types.attrsOf (types.submodule ({ config, ... }: {
      options = {
        isNormalUser = bool false;
        isSystemUser = bool false;
        description = str;
        group = str;
        home = of types.path "/var/empty";
        extraGroups = strings;
        uid = nullOr types.int;
        packages = of (types.listOf types.package) [ ];
        hashedPassword = nullOr types.str;
        hashedPasswordFile = nullOr types.str;
        shell = nullOr (types.either types.path types.package);
        openssh.authorizedKeys.keys = of (types.listOf types.singleLineStr) [ ];
        openssh.authorizedKeys.keyFiles = of (types.listOf types.path) [ ];
      };
      config = lib.mkIf config.isNormalUser { group = lib.mkDefault "users"; };
    }))) { };
    users.groups = of (types.attrsOf (types.submodule { options.members = strings; })) { };
    security = lib.genAttrs [ "sudo" "sudo-rs" ] (name: {
      enable = bool (name == "sudo");
      execWheelOnly = bool false;
      extraConfig = of types.lines "";
      extraRules = of (types.listOf (types.submodule {
        options = {
          users = of (types.listOf (types.either types.str types.int)) [ ];
          groups = of (types.listOf (types.either types.str types.int)) [ ];
          host = of types.str "ALL";
          runAs = of types.str "ALL:ALL";
          commands = of (types.listOf (types.either types.str (types.submodule {
            options.command = mkOption { type = types.str; };
            options.options = of
              (types.listOf (types.enum [ "NOPASSWD" "PASSWD" "NOEXEC" "EXEC" "SETENV" "NOSETENV" "LOG_INPUT" "NOLOG_INPUT" "LOG_OUTPUT" "NOLOG_OUTPUT" ])) [ ];
          }))) [ ];
        };
      })) [ ];
    });
    services.openssh = {
      enable = bool false;
      settings = mkOption {
        default = { };
        type = types.submodule {
          freeformType = types.attrsOf atom;
          options = {
            PermitRootLogin = of
              (types.nullOr (types.enum [ "yes" "without-password" "prohibit-password" "forced-commands-only" "no" ])) "prohibit-password";
            PasswordAuthentication = of (types.nullOr types.bool) true;
            KbdInteractiveAuthentication = of (types.nullOr types.bool) true;
            X11Forwarding = of (types.nullOr types.bool) false;
            AllowUsers = nullOr (types.listOf types.str);
            DenyUsers = nullOr (types.listOf types.str);
            AllowGroups = nullOr (types.listOf types.str);
            DenyGroups = nullOr (types.listOf types.str);
          };
        };
      };
      extraConfig = of types.lines "";
      hostKeys = of (types.listOf types.attrs) [
        { type = "rsa"; bits = 4096; path = "/etc/ssh/ssh_host_rsa_key"; }
        { type = "ed25519"; path = "/etc/ssh/ssh_host_ed25519_key"; }
      ];
    };

    system.preSwitchChecks = of (types.attrsOf types.str) { };

    systemd.packages = of (types.listOf types.package) [ ];
    systemd.services = of (types.attrsOf (unit serviceOptions)) { };
    systemd.timers = of (types.attrsOf (unit { timerConfig = unitOptions; })) { };
    systemd.sockets = of (types.attrsOf (unit { socketConfig = unitOptions; })) { };
    systemd.slices = of (types.attrsOf (unit { sliceConfig = unitOptions; })) { };
    systemd.tmpfiles.rules = strings;
    systemd.settings.Manager = mkOption {
      default = { };
      type = types.submodule { freeformType = types.attrsOf unitOption; };
    };
  };

  config = {
    users.users.root = { isSystemUser = true; group = "root"; };
    assertions = map (registration: {
      assertion = registration.fixBinary -> !registration.wrapInterpreterInShell;
      message = "NixOS: boot.binfmt.registrations";
    }) registrations ++ [
      {
        assertion = options.nixpkgs.pkgs.isDefined -> config.nixpkgs.config == { };
        message = "NixOS: nixpkgs.config is ignored where nixpkgs.pkgs is set";
      }
      {
        assertion = !(usesNvidia && nvidia.datacenter.enable);
        message = "NixOS: X11 and data center drivers exclude each other";
      }
      {
        assertion = usesNvidia -> nvidia.open != null || nvidia.datacenter.enable;
        message = "NixOS: hardware.nvidia.open is not set";
      }
      {
        assertion = !(config.security.sudo.enable && config.security.sudo-rs.enable);
        message = "NixOS: security.sudo and security.sudo-rs exclude each other";
      }
      {
        assertion =
          config.users.mutableUsers || config.users.allowNoPasswordLogin
          || lib.any lib.id (lib.mapAttrsToList (name: user: isPrivileged name user && canLogIn user) config.users.users);
        message = "NixOS: neither root nor a user of wheel can log in";
      }
    ] ++ lib.mapAttrsToList (name: interface: {
      assertion = (interface.privateKey == null) != (interface.privateKeyFile == null);
      message = "NixOS: networking.wireguard.interfaces.${name} needs one private key";
    }) config.networking.wireguard.interfaces
    ++ lib.concatLists (lib.mapAttrsToList (name: user: [
      { assertion = user.isNormalUser != user.isSystemUser; message = "NixOS: users.users.${name} is neither normal nor system"; }
      { assertion = user.group != ""; message = "NixOS: users.users.${name}.group is not set"; }
    ]) config.users.users)
    ++ lib.mapAttrsToList (name: host: {
      assertion = (host.publicKey == null) != (host.publicKeyFile == null);
      message = "NixOS: programs.ssh.knownHosts.${name} needs one key";
    }) config.programs.ssh.knownHosts
    ++ map (machine: {
      assertion = machine.systems != [ ] || machine.system != null;
      message = "NixOS: nix.buildMachines: ${machine.hostName} has no system";
    }) config.nix.buildMachines;
  };
}
