# The database that machines share the state of a fleet in, and workers their queue.
{ config, lib, ... }:
let
  cfg = config.services.fleet.database;
  inherit (lib) mkOption types;
in
{
  options.services.fleet.database = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = "Whether this machine has the PostgreSQL database of a fleet.";
    };

    name = mkOption {
      type = types.strMatching "[a-z][a-z0-9_]{0,40}";
      default = "fleet";
      description = "The database, and the role that owns it.";
    };

    certificate = mkOption {
      type = types.nullOr types.singleLineStr;
      default = null;
      example = "/var/lib/acme/db.example.org";
      description = ''
        A folder with `fullchain.pem` and `key.pem`, for other machines: they refuse a database that cannot prove which it
        is. Without one only this machine reaches it.
      '';
    };

    clients = mkOption {
      type = types.listOf types.singleLineStr;
      default = [ ];
      example = [ "10.1.0.0/16" ];
      description = "The networks that others come from, with a password. Their ports are not opened by this.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.clients == [ ] || cfg.certificate != null;
        message = "services.fleet.database.clients are other machines: they need services.fleet.database.certificate, since fleet asks for sslmode=verify-full.";
      }
    ];
    services.postgresql = {
      enable = true;
      ensureDatabases = [ cfg.name ];
      ensureUsers = [
        {
          inherit (cfg) name;
          ensureDBOwnership = true;
        }
      ];
      settings = {
        password_encryption = "scram-sha-256";
      }
      // lib.optionalAttrs (cfg.certificate != null) {
        ssl = true;
        ssl_cert_file = "${toString cfg.certificate}/fullchain.pem";
        ssl_key_file = "${toString cfg.certificate}/key.pem";
      };
      # Other databases of this host may have clients of their own.
      enableTCPIP = lib.mkIf (cfg.clients != [ ]) true;
      authentication = lib.concatMapStrings (
        network: "hostssl ${cfg.name} ${cfg.name} ${network} scram-sha-256\n"
      ) cfg.clients;
    };
  };
}
