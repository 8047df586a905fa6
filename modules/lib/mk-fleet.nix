# One NixOS configuration for each host of a fleet.toml, from `hosts/NAME/default.nix`.
{
  # The flake, or whatever else has `lib.nixosSystem`.
  nixpkgs,
  # The fleet.toml.
  inventory,
  # The folder with a folder for each host.
  hosts,
  # For all hosts.
  modules ? [ ],
  specialArgs ? { },
}:
let
  fleet = builtins.fromTOML (builtins.readFile inventory);
  defaults = fleet.defaults or { };
  # Hosts with another flake have their configurations there.
  elsewhere = builtins.filter (name: (fleet.hosts.${name}.flake or ".") != ".") (builtins.attrNames fleet.hosts);
  all = builtins.mapAttrs (_: host: defaults // host) (builtins.removeAttrs fleet.hosts elsewhere);

  configurations = builtins.mapAttrs configuration all;

  configuration =
    name: host:
    let
      folder = hosts + "/${name}";
    in
    nixpkgs.lib.nixosSystem {
      inherit specialArgs;
      modules =
        modules
        ++ [
          (
            if builtins.pathExists folder then
              folder
            else
              throw "fleet.toml has a host ${name}, and there is no folder ${toString folder}"
          )
          (
            { lib, ... }:
            {
              # After what a profile or hardware-configuration.nix has by mkDefault: some take the name from a cloud.
              # A host's name in fleet.toml may be a domain name.
              networking.hostName = lib.mkOverride 1200 (builtins.head (lib.splitString "." name));
              nixpkgs.hostPlatform = lib.mkOverride 1200 (host.system or "x86_64-linux");
            }
          )
        ]
        ++ (if isGpu host then [ (samePins name host) ] else [ ]);
    };

  isGpu = host: (host.kind or "server") == "gpu";

  # GPU hosts of one tag serve one purpose, so what runs on one has to run on the other. No host can see that alone.
  samePins =
    name: host:
    { config, ... }:
    let
      pinOf = of: of.services.fleet.gpu.pin or null;
      sharedTag = other: builtins.filter (tag: builtins.elem tag (host.tags or [ ])) (other.tags or [ ]);
      # The later one complains, once for each pair.
      others = builtins.filter (
        other: other < name && isGpu all.${other} && sharedTag all.${other} != [ ]
      ) (builtins.attrNames all);
      check =
        other:
        let
          pins = map pinOf [
            config
            configurations.${other}.config
          ];
          tag = builtins.head (sharedTag all.${other});
        in
        {
          assertion = builtins.elem null pins || builtins.head pins == builtins.elemAt pins 1;
          message = ''
            The GPU hosts ${name} and ${other} are both tagged ${tag}, and services.fleet.gpu differs:
              ${name}: ${builtins.toJSON (builtins.head pins)}
              ${other}: ${builtins.toJSON (builtins.elemAt pins 1)}
            Make them equal, for example in a module that both import, or give the hosts different tags in fleet.toml.
          '';
        };
    in
    {
      assertions = map check others;
    };
in
configurations
