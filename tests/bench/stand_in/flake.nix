# What colmena, deploy-rs and fleet deploy from in the bench. Its systems are those that the bench has built.
{
  inputs.nixpkgs.url = "path:@nixpkgs@";

  outputs = { self, nixpkgs }:
    let
      given = builtins.fromJSON (builtins.readFile ./given.json);
      pkgs = nixpkgs.legacyPackages.${given.system};
      module = import ./module.nix given;
      activatable = import ./activatable.nix { inherit given pkgs; };
      perHost = make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) given.hosts);
    in
    {
      nixosConfigurations = perHost (_: nixpkgs.lib.nixosSystem { inherit (given) system; modules = [ module ]; });

      colmena = perHost (_: module) // { meta.nixpkgs = pkgs; };
      # Its own sources evaluate that, which the bench has copied to here.
      colmenaHive = import ./colmena/eval.nix {
        rawFlake.outputs.colmena = self.colmena;
        colmenaOptions = import ./colmena/options.nix;
        colmenaModules = import ./colmena/modules.nix;
      };

      deploy = {
        sshUser = "root";
        user = "root";
        fastConnection = true;
        sshOpts = [ "-F" given.sshConfig ];
        nodes = perHost (name: { hostname = name; profiles.system.path = activatable; });
      };
    };
}
