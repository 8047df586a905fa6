# A fleet for colmena as many are: the output colmena, and nothing else.
{
  outputs =
    { self }:
    let
      # Stands for the inputs nixpkgs and colmena.
      colmena.lib.makeHive = (import ./nixos.nix).makeHive;
    in
    {
      colmena = {
        meta.nixpkgs = throw "a whole nixpkgs";
        nah0 = {
          deployment.targetHost = "nah0.example.org";
          networking.hostName = "nah0";
        };
        air0 =
          { ... }:
          {
            deployment.targetHost = "air0.example.org";
          };
      };
    };
}
