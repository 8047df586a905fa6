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

  configuration =
    name: host:
    let
      folder = hosts + "/${name}";
      system = host.system or defaults.system or "x86_64-linux";
    in
    nixpkgs.lib.nixosSystem {
      inherit specialArgs;
      modules = modules ++ [
        (
          if builtins.pathExists folder then
            folder
          else
            throw "fleet.toml has a host ${name}, and there is no folder ${toString folder}"
        )
        (
          { lib, ... }:
          {
            # A host's name in fleet.toml may be a domain name.
            networking.hostName = lib.mkDefault (builtins.head (lib.splitString "." name));
            nixpkgs.hostPlatform = lib.mkDefault system;
          }
        )
      ];
    };
in
builtins.mapAttrs configuration fleet.hosts
