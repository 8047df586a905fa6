# What a host needs so that `fleet` can deploy to it without a login as root.
{ config, lib, ... }:
let
  cfg = config.services.fleet.base;
  inherit (lib) mkOption types;
  # Before what a profile of NixOS has by mkDefault, and after what a host says.
  preferred = lib.mkOverride 900;

  keyType = "(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\\.com)";
  publicKey = types.strMatching "([^\n]* )?${keyType} AAAA[^\n]*" // {
    description = "SSH public key on one line, such as the text of ~/.ssh/id_ed25519.pub";
  };
  # In hosts/keys.nix of the repository that this file is from.
  exampleKey = "AAAAIEdy1O4RrRfvmFzGMLzwmP1bs5JEaGBSjPw3YFTCXq7V";
  # Lists of sshd_config(5): patterns with * and ? of groups, or of users, perhaps with @ and where they come from.
  listed = name: config.services.openssh.settings.${name} or null;
  matches =
    name: pattern:
    builtins.match (lib.replaceStrings [ "\\*" "\\?" ] [ ".*" "." ] (lib.escapeRegex pattern)) name != null;
  parts = lib.splitString "@";
  admits = word: matches cfg.user (lib.head (parts word));
  denies = word: admits word && lib.elem (lib.tail (parts word)) [ [ ] [ "*" ] ];
  account = config.users.users.${cfg.user};
  members = lib.filterAttrs (_: group: lib.elem cfg.user group.members) config.users.groups;
  groups = lib.unique ([ account.group ] ++ account.extraGroups ++ lib.attrNames members);
  isOfGroup = pattern: lib.any (group: matches group pattern) groups;
  isExample = lib.hasInfix exampleKey;
in
{
  options.services.fleet.base = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether to make a user that `fleet` logs in as, and to run an SSH server that lets it.

        Whoever may deploy is root: each of the keys can become root without a password, since a deployment can
        change everything. The user is no trusted user of Nix, and paths that `fleet` pushes need no signatures: they
        are received by root's own Nix.

        NixOS does not count this user as somebody who can log in and become root. With `users.mutableUsers = false`
        and no other such account it refuses the configuration: set `users.allowNoPasswordLogin = true`.
      '';
    };

    user = mkOption {
      type = types.strMatching "[a-z_][a-z0-9_-]{0,30}";
      default = "deploy";
      description = "Name of the user. It is `user` in fleet.toml, together with `sudo = true`.";
    };

    authorizedKeys = mkOption {
      type = types.listOf publicKey;
      default = [ ];
      example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… alice@laptop" ];
      description = "Public keys of everyone who may deploy to this host, and who is thereby root on it.";
    };

    trustedSigningKeys = mkOption {
      type = types.listOf (types.strMatching "[A-Za-z0-9._-]+:[A-Za-z0-9+/]{43}=");
      default = [ ];
      example = [ "home-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=" ];
      description = ''
        Public keys of whoever signs store paths for this host: the second file that
        `nix-store --generate-binary-cache-key` writes. With a signature paths can come from anywhere, so that nobody
        has to be a trusted user of Nix. `fleet` itself needs none.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.authorizedKeys != [ ];
        message = "services.fleet.base.authorizedKeys is empty: nobody could deploy to this host any more";
      }
      {
        assertion = cfg.user != "root";
        message = "services.fleet.base.user is root, who needs no such user: disable services.fleet.base";
      }
      {
        assertion = listed "AllowUsers" == null || lib.any admits (listed "AllowUsers");
        message = ''
          services.openssh.settings.AllowUsers lets only ${toString (listed "AllowUsers")} log in, and ${cfg.user} is none
          of them: add it, or nobody could deploy to this host any more.
        '';
      }
      {
        assertion = listed "DenyUsers" == null || !lib.any denies (listed "DenyUsers");
        message = ''
          services.openssh.settings.DenyUsers keeps out ${toString (listed "DenyUsers")}, and ${cfg.user} with them: except
          it, or nobody could deploy to this host any more.
        '';
      }
      {
        assertion = listed "AllowGroups" == null || lib.any isOfGroup (listed "AllowGroups");
        message = ''
          services.openssh.settings.AllowGroups lets only ${toString (listed "AllowGroups")} log in, and ${cfg.user} is in
          none of them but in ${toString groups}: add one to users.users.${cfg.user}.extraGroups, or nobody could deploy
          to this host any more.
        '';
      }
      {
        assertion = listed "DenyGroups" == null || !lib.any isOfGroup (listed "DenyGroups");
        message = ''
          services.openssh.settings.DenyGroups keeps out ${toString (listed "DenyGroups")}, and ${cfg.user} is in
          ${toString groups}: leave out what they share, or nobody could deploy to this host any more.
        '';
      }
      {
        assertion = config.security.sudo.enable || config.security.sudo-rs.enable;
        message = ''
          services.fleet.base lets ${cfg.user} become root by sudo, and there is none: set security.sudo.enable or
          security.sudo-rs.enable, or disable services.fleet.base and deploy as root.
        '';
      }
      {
        assertion =
          !lib.any (sudo: sudo.enable && sudo.execWheelOnly) [
            config.security.sudo
            config.security.sudo-rs
          ];
        message = ''
          With execWheelOnly only members of wheel may run sudo, and ${cfg.user} is none of them: remove
          security.sudo.execWheelOnly (or security.sudo-rs.execWheelOnly), or disable services.fleet.base and deploy as
          root.
        '';
      }
    ];

    warnings =
      lib.optional (lib.any isExample cfg.authorizedKeys) ''
        services.fleet.base.authorizedKeys has the key of the example, whose other half nobody has: replace it by your
        own, the text of ~/.ssh/id_ed25519.pub.
      ''
      ++ lib.optional (lib.elem cfg.user config.nix.settings.trusted-users) ''
        nix.settings.trusted-users has ${cfg.user}. fleet does not need that: remove it, or use
        services.fleet.base.trustedSigningKeys if that user copies paths by other means.
      '';

    nix.settings.trusted-public-keys = cfg.trustedSigningKeys;

    # Whoever can open this file can hold the lock, and then nothing switches. Only root has to.
    systemd.tmpfiles.rules = [
      "d /run/nixos 0755 root root -"
      "f /run/nixos/switch-to-configuration.lock 0600 root root -"
    ];

    users.users.${cfg.user} = {
      isNormalUser = true;
      description = "Deployments by fleet";
      openssh.authorizedKeys.keys = cfg.authorizedKeys;
    };

    # Only one of them is enabled; the rules of the other are not looked at.
    security = lib.genAttrs [ "sudo" "sudo-rs" ] (_: {
      extraRules = [
        {
          users = [ cfg.user ];
          commands = [
            {
              command = "ALL";
              options = [ "NOPASSWD" ];
            }
          ];
        }
      ];
    });

    services.openssh = {
      enable = true;
      settings = {
        PasswordAuthentication = preferred false;
        KbdInteractiveAuthentication = preferred false;
        PermitRootLogin = preferred "no";
        X11Forwarding = preferred false;
        AllowAgentForwarding = preferred false;
        AllowTcpForwarding = preferred false;
        AllowStreamLocalForwarding = preferred false;
      };
      # Checks with `from = "host"` and jumps through this host are forwarded connections. Last, because all that
      # follows a Match belongs to it.
      extraConfig = lib.mkAfter ''
        Match User ${cfg.user}
          AllowTcpForwarding local
          AllowStreamLocalForwarding local
        Match All
      '';
    };
  };
}
