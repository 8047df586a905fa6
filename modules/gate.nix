# A login that may ask for fleet's host program, and for nothing else; what changes the host needs signatures.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.fleet.gate;
  inherit (lib) mkOption types;

  kinds = "ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\\.com";
  publicKey = types.strMatching "(${kinds}) AAAA[A-Za-z0-9+/]+={0,2}( [^\n]*)?" // {
    description = "SSH public key on one line and without options, such as the text of ~/.ssh/id_ed25519.pub";
  };
  name = types.strMatching "[A-Za-z0-9][A-Za-z0-9._-]*";
  storeKey = types.strMatching "[A-Za-z0-9._-]+:[A-Za-z0-9+/]{43}=";

  words = lib.splitString " ";
  bare = key: lib.concatStringsSep " " (lib.take 2 (words key));
  # The same for two keys that one FIDO device holds, whatever application they were made for: kind and point. The host looks
  # at the same part of them.
  identity =
    key:
    let
      kind = lib.head (words key);
      blob = lib.elemAt (words key) 1;
    in
    kind
    + " "
    + (
      if kind == "sk-ssh-ed25519@openssh.com" then
        lib.substring 0 88 blob
      else if kind == "sk-ecdsa-sha2-nistp256@openssh.com" then
        lib.substring 0 158 blob
      else
        blob
    );

  principal = types.submodule {
    options = {
      kind = mkOption {
        type = types.enum [
          "person"
          "agent"
          "ci"
        ];
        description = "People approve; everybody may make plans.";
      };
      keys = mkOption {
        type = types.listOf publicKey;
        default = [ ];
        description = "The SSH keys that this one signs with.";
      };
      # The rest of principals.toml, which says nothing to a host.
      tokens = mkOption {
        type = types.listOf types.str;
        default = [ ];
        internal = true;
      };
      users = mkOption {
        type = types.listOf types.str;
        default = [ ];
        internal = true;
      };
      may_request = mkOption {
        type = types.bool;
        default = false;
        internal = true;
      };
    };
  };
  signers = lib.concatLists (
    lib.mapAttrsToList (
      who: one:
      map (key: {
        inherit who key;
        approves = one.kind == "person";
      }) one.keys
    ) cfg.principals
  );
  people = lib.filter (who: cfg.principals.${who}.kind == "person" && cfg.principals.${who}.keys != [ ]) (
    lib.attrNames cfg.principals
  );
  shared = lib.filter (
    one: lib.any (other: other.who != one.who && identity other.key == identity one.key) signers
  ) signers;

  # Names of other accounts with a key that opens this one.
  keysOf =
    account:
    account.openssh.authorizedKeys.keys
    ++ lib.concatMap (file: lib.splitString "\n" (builtins.readFile file)) account.openssh.authorizedKeys.keyFiles;
  opens = account: lib.any (line: lib.any (key: lib.hasInfix (bare key) line) cfg.authorizedKeys) (keysOf account);
  others = lib.filterAttrs (who: _: who != cfg.user) config.users.users;
  opened = lib.attrNames (lib.filterAttrs (_: opens) others);

  account = config.users.users.${cfg.user};
  groups = [ account.group ] ++ account.extraGroups ++ lib.attrNames (
    lib.filterAttrs (_: group: lib.elem cfg.user group.members) config.users.groups
  );
  # Whoever is in one of these is as good as root.
  powers = lib.intersectLists groups [
    "wheel"
    "root"
    "disk"
    "docker"
    "podman"
    "lxd"
    "incus-admin"
    "libvirtd"
  ];
  trusted = lib.intersectLists ([ "*" cfg.user ] ++ map (group: "@${group}") groups) config.nix.settings.trusted-users;
  # What sudo lets this user do beside our rule.
  furtherRules = lib.filter (
    rule:
    (lib.elem cfg.user rule.users || lib.any (group: lib.elem group groups) rule.groups || lib.elem "ALL" rule.users)
    && map (command: if lib.isString command then command else command.command) rule.commands != [ "${cfg.entry}" ]
  ) (config.security.sudo.extraRules ++ config.security.sudo-rs.extraRules);

  file = text: { inherit text; };
  login = "exec sudo -n -- ${cfg.entry} \"$SSH_ORIGINAL_COMMAND\"";
  forwarding = lib.optionalString (cfg.permitOpen != [ ]) (
    "port-forwarding," + lib.concatMapStrings (place: "permitopen=\"${place}\",") cfg.permitOpen
  );
in
{
  options.services.fleet.gate = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether to make a user whose keys may run `fleet`'s gate and nothing else: no shell, no files, no forwarding but to
        checks. What changes this host needs a plan with the signatures that are asked for here, and the host looks at
        them itself. In fleet.toml the host has `user` and `gate = true`.

        It binds everybody who has no other way to become root. `fleet check` names the ways that there are.
      '';
    };

    user = mkOption {
      type = types.strMatching "[a-z_][a-z0-9_-]{0,30}";
      default = "fleet";
      description = "Name of the user. It is `user` in fleet.toml.";
    };

    authorizedKeys = mkOption {
      type = types.listOf publicKey;
      default = [ ];
      example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… deployments" ];
      description = "Keys that log in as this user. They open no other account, and a stolen one changes nothing.";
    };

    fleet = mkOption {
      type = types.nullOr (types.strMatching "[0-9a-f]{8,64}");
      default = null;
      example = lib.literalExpression "(lib.importTOML ./fleet.toml).fleet.id";
      description = "The `id` of `[fleet]` in fleet.toml. Plans for other fleets are refused.";
    };

    host = mkOption {
      type = name;
      default = config.networking.hostName;
      defaultText = lib.literalExpression "config.networking.hostName";
      description = "Name of this host in fleet.toml.";
    };

    principals = mkOption {
      type = types.attrsOf principal;
      default = { };
      example = lib.literalExpression "(lib.importTOML ./principals.toml).principals";
      description = "Everybody whose signatures count, by name: `[principals]` of principals.toml.";
    };

    required = mkOption {
      type = types.ints.positive;
      default = 1;
      description = "How many different people have to approve a plan. Its author's own approval counts.";
    };

    touch = mkOption {
      type = types.bool;
      default = false;
      description = "Whether only approvals count that were made by a FIDO key which somebody has touched.";
    };

    pushKeys = mkOption {
      type = types.listOf storeKey;
      default = [ ];
      example = [ "home-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=" ];
      description = ''
        Public keys of whoever signs store paths that are pushed to this host: the public half of `signing_key` in
        fleet.toml. Nix takes no others from this user. What such a path has in it is compared with the plan all the same.
      '';
    };

    contentKeys = mkOption {
      type = types.listOf storeKey;
      default = [ ];
      example = [ "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=" ];
      description = ''
        Public keys of whoever is trusted with what is in a store path as much as whoever has approved the plan. A path
        that this host has already with other contents than the plan says passes with such a signature, and else only if
        this host has built it. Do not name a key of `pushKeys` here.
      '';
    };

    permitOpen = mkOption {
      type = types.listOf (types.strMatching "[A-Za-z0-9.:_-]+:[0-9]+|\\[[0-9a-f:.]+]:[0-9]+");
      default = [ ];
      example = [ "127.0.0.1:8080" ];
      description = "Where connections may be forwarded to: what checks with `from = \"host\"` ask in fleet.toml.";
    };

    checks = mkOption {
      type = types.attrsOf types.lines;
      default = { };
      example = lib.literalExpression ''
        { web = "''${pkgs.curl}/bin/curl -fsS http://127.0.0.1/"; }
      '';
      description = ''
        Texts for the shell, by the names of the checks with `command` in fleet.toml: root runs what is here, and not what
        is there. Each must also succeed before a new system is kept, whatever the one who deploys says, within a minute.
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

    scripts = mkOption {
      type = types.attrsOf types.path;
      default = { };
      example = lib.literalExpression "import ./fleet/host/gate/scripts.nix";
      description = "What the gate runs besides, by name. The modules of its flake set it.";
    };

    entry = mkOption {
      type = types.package;
      internal = true;
      readOnly = true;
      # Nothing of the caller's environment gets through. /bin/sh and /usr/bin/env are on every NixOS.
      default = pkgs.writeScript "fleet-gate" ''
        #!/bin/sh
        exec /usr/bin/env -i PATH=/run/current-system/sw/bin LC_ALL=C ${toString cfg.program} gate "$1"
      '';
      description = "The one program that the user may run as root.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.program != null && cfg.scripts != { };
        message = ''
          services.fleet.gate.program and services.fleet.gate.scripts are not both set: take the folder fleet of fleet's
          source and set pkgs.writeScript "fleet-host" (import ./fleet/host/program) and import
          ./fleet/host/gate/scripts.nix, or import nixosModules.gate of its flake, which does that.
        '';
      }
      {
        assertion = cfg.fleet != null;
        message = ''
          services.fleet.gate.fleet is not set: it is the id of [fleet] in fleet.toml, which fleet init writes, or the first
          fleet plan --sign.
        '';
      }
      {
        assertion = cfg.authorizedKeys != [ ];
        message = "services.fleet.gate.authorizedKeys is empty: nobody could deploy to this host any more";
      }
      {
        assertion = lib.length people >= cfg.required;
        message = ''
          services.fleet.gate.required is ${toString cfg.required}, and ${toString (lib.length people)} people with keys are in
          services.fleet.gate.principals: nobody could change this host any more.
        '';
      }
      {
        assertion = shared == [ ];
        message = ''
          services.fleet.gate.principals has one key under two names, ${toString (lib.unique (map (one: one.who) shared))}:
          nobody could tell who has signed.
        '';
      }
      {
        assertion = opened == [ ];
        message = ''
          A key of services.fleet.gate.authorizedKeys opens ${toString opened} as well, which would get round the gate: use
          another key, made for this.
        '';
      }
      {
        assertion = !(config.services.fleet.base.enable or false);
        message = ''
          services.fleet.base lets ${config.services.fleet.base.user or "its user"} become root without a password, which would get
          round the gate: disable services.fleet.base on this host.
        '';
      }
      {
        assertion = cfg.user != "root" && powers == [ ];
        message = ''
          ${cfg.user}, the user of services.fleet.gate, is root or in ${toString powers}, and needs no gate then: leave the user
          out of these groups.
        '';
      }
      {
        assertion = trusted == [ ];
        message = ''
          nix.settings.trusted-users has ${toString trusted}, and ${cfg.user} with that: whom Nix trusts can put anything into
          the store. Remove it.
        '';
      }
      {
        assertion = furtherRules == [ ];
        message = ''
          A rule of security.sudo lets ${cfg.user} run something else than the gate, as the rule for users
          ${toString (lib.concatMap (rule: rule.users) furtherRules)} and groups
          ${toString (lib.concatMap (rule: rule.groups) furtherRules)} does: leave that user out.
        '';
      }
      {
        assertion = config.security.sudo.enable || config.security.sudo-rs.enable;
        message = ''
          services.fleet.gate lets ${cfg.user} run one program by sudo, and there is none: set security.sudo.enable or
          security.sudo-rs.enable.
        '';
      }
      {
        assertion =
          !lib.any (sudo: sudo.enable && sudo.execWheelOnly) [
            config.security.sudo
            config.security.sudo-rs
          ];
        message = ''
          With execWheelOnly only members of wheel may run sudo, and ${cfg.user} must be none of them: remove
          security.sudo.execWheelOnly (or security.sudo-rs.execWheelOnly).
        '';
      }
      {
        assertion = lib.intersectLists cfg.pushKeys cfg.contentKeys == [ ];
        message = ''
          services.fleet.gate.contentKeys has a key of pushKeys: whoever pushes could put something else into a path than
          was approved. Leave it out of contentKeys.
        '';
      }
      {
        assertion = lib.all (check: builtins.match "[A-Za-z0-9][A-Za-z0-9._-]{0,63}" check != null) (lib.attrNames cfg.checks);
        message = ''
          A name in services.fleet.gate.checks is no word of letters, digits, '.', '_' and '-': fleet.toml names checks so.
        '';
      }
    ];

    warnings = lib.optional (config.services.openssh.settings.PermitRootLogin or "no" != "no" && keysOf config.users.users.root != [ ]) ''
      root has SSH keys on this host, and whoever holds one gets round services.fleet.gate: remove them, or set
      services.openssh.settings.PermitRootLogin = "no", as soon as the gate works.
    '';

    environment.etc = {
      "fleet/gate/config" = file (
        lib.concatLines (
          [
            "fleet-gate v1"
            "fleet ${toString cfg.fleet}"
            "host ${cfg.host}"
            "user ${cfg.user}"
            "required ${toString cfg.required}"
            "touch ${lib.boolToYesNo cfg.touch}"
            "program ${toString cfg.program}"
            "entry ${cfg.entry}"
          ]
          ++ map (key: "hostkey ${key.path}") config.services.openssh.hostKeys
          ++ map (key: "content ${key}") cfg.contentKeys
        )
      );
      "fleet/gate/allowed_signers" = file (
        lib.concatMapStrings (one: ''
          ${one.who} namespaces="fleet-plan@v1${lib.optionalString one.approves ",fleet-approval@v1"}" ${bare one.key}
        '') signers
      );
    }
    // lib.mapAttrs' (check: text: lib.nameValuePair "fleet/gate/checks/${check}" (file text)) cfg.checks
    // lib.mapAttrs' (script: path: lib.nameValuePair "fleet/gate/scripts/${script}" (file (builtins.readFile path))) cfg.scripts;

    nix.settings.trusted-public-keys = cfg.pushKeys;

    # Whoever can open this file can hold the lock, and then nothing switches. Only root has to.
    systemd.tmpfiles.rules = [
      "d /run/nixos 0755 root root -"
      "f /run/nixos/switch-to-configuration.lock 0600 root root -"
    ];

    users.groups.${cfg.user} = { };
    users.users.${cfg.user} = {
      isSystemUser = true;
      group = cfg.user;
      description = "The gate of fleet";
      # sshd runs the forced command with it. There is no home in which anything could wait for that.
      shell = "/bin/sh";
      openssh.authorizedKeys.keys = map (key: "restrict,${forwarding}command=${lib.strings.toJSON login} ${bare key}") cfg.authorizedKeys;
    };

    # Only one of them is enabled; the rules of the other are not looked at.
    security = lib.genAttrs [ "sudo" "sudo-rs" ] (_: {
      extraRules = [
        {
          users = [ cfg.user ];
          runAs = "root";
          commands = [
            {
              command = "${cfg.entry}";
              options = [ "NOPASSWD" ];
            }
          ];
        }
      ];
    });

    services.openssh = {
      enable = true;
      # Last, because all that follows a Match belongs to it.
      extraConfig = lib.mkAfter ''
        Match User ${cfg.user}
          AuthenticationMethods publickey
          AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u
          AuthorizedKeysCommand none
          TrustedUserCAKeys none
          ForceCommand ${login}
          PermitTTY no
          PermitUserRC no
          PermitTunnel no
          X11Forwarding no
          AllowAgentForwarding no
          AllowStreamLocalForwarding no
          AllowTcpForwarding ${if cfg.permitOpen == [ ] then "no" else "local"}
          PermitListen none
          PermitOpen ${if cfg.permitOpen == [ ] then "none" else toString cfg.permitOpen}
        Match All
      '';
    };
  };
}
