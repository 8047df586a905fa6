# What a host needs so that `fleet` can deploy to it without a login as root.
{ config, lib, ... }:
let
  cfg = config.services.fleet.base;
in
{
  options.services.fleet.base = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = ''
        Whether to make a user that `fleet` logs in as, and to run an SSH server that lets it.

        Whoever may deploy is root: each of the keys can become root without a password, since a deployment can
        change everything. Nix needs no setting: what is pushed goes through root's own Nix, so the user is not a
        trusted user, and paths need no signatures.
      '';
    };

    user = lib.mkOption {
      type = lib.types.strMatching "[a-z_][a-z0-9_-]{0,30}";
      default = "deploy";
      description = "Name of the user. It is `user` in fleet.toml, together with `sudo = true`.";
    };

    authorizedKeys = lib.mkOption {
      type = lib.types.listOf lib.types.singleLineStr;
      default = [ ];
      example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… alice@laptop" ];
      description = "Public keys of everyone who may deploy to this host, and who is thereby root on it.";
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
    ];

    users.users.${cfg.user} = {
      isNormalUser = true;
      description = "Deployments by fleet";
      openssh.authorizedKeys.keys = cfg.authorizedKeys;
    };

    security.sudo.extraRules = [
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

    services.openssh = {
      enable = true;
      settings = {
        PasswordAuthentication = lib.mkDefault false;
        KbdInteractiveAuthentication = lib.mkDefault false;
        PermitRootLogin = lib.mkDefault "no";
      };
      # Checks with `from = "host"` are connections through SSH, also where forwarding is off for everybody else.
      # Last, because all that follows a Match belongs to it.
      extraConfig = lib.mkAfter ''
        Match User ${cfg.user}
          AllowTcpForwarding local
          AllowStreamLocalForwarding local
      '';
    };
  };
}
