{
  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixpkgs-unstable";
    # Where you have fleet from: a git URL, or path:/home/you/fleet
    fleet.url = "git+https://example.org/fleet";
    fleet.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    { fleet, nixpkgs, ... }:
    {
      nixosConfigurations = fleet.lib.mkFleet {
        inherit nixpkgs;
        inventory = ./fleet.toml;
        hosts = ./hosts;
        modules = [ fleet.nixosModules.base ];
      };
    };
}
