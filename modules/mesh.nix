# WireGuard between the hosts of a fleet. Each makes its own private key, which never leaves it; whom it lets in is in a file.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.fleet.mesh;
  inherit (lib) mkOption types;

  hasFile = cfg.file != null && builtins.pathExists cfg.file;
  mesh = if hasFile then builtins.fromTOML (builtins.readFile cfg.file) else { };
  hosts = mesh.hosts or { };
  isIn = hosts ? ${cfg.name};
  peers = lib.filterAttrs (name: _: name != cfg.name) hosts;
  peerOf = host: {
    publicKey = host.public_key;
    allowedIPs = [ "${host.address}/128" ];
    endpoint = host.endpoint or null;
    inherit (cfg) persistentKeepalive;
  };

  # What two hosts share, though WireGuard gives it to the last of them alone.
  sharedBy = key: lib.filter (one: lib.length (lib.filter (other: other == one) (of key)) > 1) (of key);
  of = key: map (host: host.${key} or "") (lib.attrValues hosts);
  isKey = key: builtins.match "[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=" key != null;
  isAddress = builtins.match "[0-9a-f:]{2,39}";
  begins = lib.removeSuffix ":/64" (mesh.prefix or ":/64");
in
{
  options.services.fleet.mesh = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether this host makes a key for the mesh of its fleet, and is in the mesh as soon as `file` has that key.

        The private key is `/var/lib/fleet-mesh/key`, which root alone can read. It is made once, on the host.
      '';
    };

    file = mkOption {
      type = types.nullOr types.path;
      default = null;
      description = ''
        The mesh.toml beside fleet.toml, which `fleet mesh keys` writes. Where it does not exist yet, the host only makes
        its key.
      '';
    };

    name = mkOption {
      type = types.strMatching "[A-Za-z0-9][A-Za-z0-9._-]*";
      default = config.networking.hostName;
      defaultText = lib.literalExpression "config.networking.hostName";
      description = "Name of the host in fleet.toml.";
    };

    interface = mkOption {
      type = types.strMatching "[a-z][a-z0-9-]{0,14}";
      default = "fleet-mesh";
      description = "Name of the network interface.";
    };

    listenPort = mkOption {
      type = types.ints.between 1 65535;
      default = 51820;
      description = "UDP port on which others reach this host. It is in its `endpoint` in mesh.toml.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the firewall lets that port in.";
    };

    persistentKeepalive = mkOption {
      type = types.nullOr (types.ints.between 1 65535);
      default = 25;
      description = "Seconds between packets that keep a way through NAT open. None are sent with null.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.file != null;
        message = "services.fleet.mesh.file is not set: it is the mesh.toml beside fleet.toml, which may not exist yet";
      }
      {
        assertion = lib.all isKey (of "public_key");
        message = "mesh.toml: a public_key is none of WireGuard: fleet mesh keys writes it";
      }
      {
        assertion = sharedBy "public_key" == [ ];
        message = "mesh.toml: two hosts have one public_key, ${toString (lib.unique (sharedBy "public_key"))}";
      }
      {
        assertion = lib.all (address: isAddress address != null && begins != "" && lib.hasPrefix begins address) (of "address");
        message = "mesh.toml: an address is not below prefix, ${mesh.prefix or "which is missing"}";
      }
      {
        assertion = sharedBy "address" == [ ];
        message = "mesh.toml: two hosts have one address, ${toString (lib.unique (sharedBy "address"))}: rename one";
      }
      {
        assertion = !(config.networking.wireguard.useNetworkd or false);
        message = ''
          services.fleet.mesh keeps its key so that root alone can read it, and systemd-networkd is not root: set
          networking.wireguard.useNetworkd = false, which leaves all else to networkd.
        '';
      }
    ];

    warnings = lib.optional (hasFile && !isIn) ''
      mesh.toml has no host ${cfg.name}, so that this host is not in the mesh: deploy, then fleet mesh keys, then deploy again.
    '';

    systemd.services.fleet-mesh-key = {
      description = "Key of this host for the mesh of its fleet";
      wantedBy = [ "multi-user.target" ];
      requiredBy = lib.optional isIn "wireguard-${cfg.interface}.service";
      before = lib.optional isIn "wireguard-${cfg.interface}.service";
      path = [ pkgs.wireguard-tools ];
      script = builtins.readFile ./lib/mesh-key.sh;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        StateDirectory = "fleet-mesh";
        StateDirectoryMode = "0755";
        UMask = "0077";
        CapabilityBoundingSet = "";
        NoNewPrivileges = true;
        PrivateNetwork = true;
        PrivateTmp = true;
        ProtectHome = true;
        ProtectSystem = "strict";
      };
    };

    networking = lib.mkIf isIn {
      wireguard.interfaces.${cfg.interface} = {
        ips = [ "${hosts.${cfg.name}.address}/128" ];
        privateKeyFile = "/var/lib/fleet-mesh/key";
        inherit (cfg) listenPort;
        peers = map peerOf (lib.attrValues peers);
      };
      firewall.allowedUDPPorts = lib.optional cfg.openFirewall cfg.listenPort;
    };
  };
}
