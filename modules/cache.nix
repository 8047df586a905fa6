# A host as a client of binary caches.
{ config, lib, ... }:
let
  cfg = config.services.fleet.cache;
  inherit (lib) mkOption types;
  # Before what a profile of NixOS has by mkDefault, and after what a host says.
  preferred = lib.mkOverride 900;

  publicKey = types.strMatching "[A-Za-z0-9._-]+:[A-Za-z0-9+/]{43}=" // {
    description =
      "public key of a cache, NAME:BASE64 with 44 characters after the colon: the second file that "
      + "nix-store --generate-binary-cache-key writes (a secret key is twice as long, and never belongs here)";
  };

  cache = types.submodule {
    options = {
      url = mkOption {
        type = types.strMatching "(https?|s3|ssh|ssh-ng|file)://[^[:space:]]+" // {
          description = "address of a cache, such as https://cache.example.org, s3://bucket or ssh-ng://host";
        };
        example = "https://cache.example.org";
        description = "Where the cache is.";
      };
      publicKey = mkOption {
        type = publicKey;
        example = "cache.example.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
        description = "The public key whose signatures count for what comes from there.";
      };
      priority = mkOption {
        type = types.nullOr types.ints.positive;
        default = null;
        example = 30;
        description = "Which cache is asked first: the lowest number, and cache.nixos.org has 40. null: as the cache says.";
      };
    };
  };

  substituter =
    cache:
    let
      separator = if lib.hasInfix "?" cache.url then "&" else "?";
    in
    cache.url + lib.optionalString (cache.priority != null) "${separator}priority=${toString cache.priority}";

  keyName = key: lib.head (lib.splitString ":" key);
  keys = lib.unique (map (cache: cache.publicKey) cfg.caches);
  urls = map (cache: cache.url) cfg.caches;
in
{
  options.services.fleet.cache = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether this host fetches store paths from the caches below, and believes their signatures. What a host can
        fetch for itself, `fleet` does not push (`substitute` in fleet.toml). cache.nixos.org stays as it is.
      '';
    };

    caches = mkOption {
      type = types.listOf cache;
      default = [ ];
      description = "The caches.";
    };

    connectTimeout = mkOption {
      type = types.ints.positive;
      default = 5;
      description = "After how many seconds a cache that does not answer is passed over.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.caches != [ ];
        message = "services.fleet.cache is enabled and knows no cache: set services.fleet.cache.caches, or disable it";
      }
      {
        assertion = lib.allUnique urls;
        message = "services.fleet.cache.caches has the same url twice: keep one of them";
      }
      {
        assertion = lib.allUnique (map keyName keys);
        message = ''
          services.fleet.cache.caches has two different public keys of one name, and Nix would use only one of them:
          ${lib.concatStringsSep ", " keys}. Correct the wrong one, or give the caches keys of different names.
        '';
      }
      {
        assertion = config.nix.settings.require-sigs;
        message = ''
          nix.settings.require-sigs is false, so that anybody between this host and its caches could replace what it
          fetches: remove that setting.
        '';
      }
    ];

    nix.settings = {
      # NixOS adds cache.nixos.org and its key.
      substituters = map substituter cfg.caches;
      trusted-public-keys = keys;
      connect-timeout = preferred cfg.connectTimeout;
      # Without it, a path that a cache announces and cannot deliver is an error, instead of being pushed or built.
      fallback = preferred true;
      # An answer "no such path" is believed for an hour otherwise, also after the path has been pushed there.
      narinfo-cache-negative-ttl = preferred 60;
    };
  };
}
