# A fleet for colmena with the output colmenaHive, which its newer versions ask for.
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
        defaults.deployment.targetUser = "deploy";
        web-1 =
          { name, nodes, ... }:
          {
            deployment = {
              targetHost = "${name}.example.org";
              tags = [
                "web"
                "prod"
              ];
            };
            services.nginx.enable = true;
          };
        web-2 =
          { name, ... }:
          {
            deployment = {
              targetHost = "${name}.example.org";
              tags = [ "web" ];
              buildOnTarget = true;
            };
            services.nginx.enable = true;
          };
        db = {
          deployment = {
            targetHost = "db.example.org";
            sshOptions = [
              "-o"
              "ServerAliveCountMax=3"
            ];
            keys."restic.pass".keyCommand = [
              "pass"
              "restic"
            ];
          };
          services.postgresql.enable = true;
        };
      };
      colmenaHive = colmena.lib.makeHive self.outputs.colmena;
    };
}
