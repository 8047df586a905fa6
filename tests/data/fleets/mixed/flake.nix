# A fleet in the middle of a move: configurations, some of them deployed by colmena and some by deploy-rs.
{
  outputs =
    { self }:
    let
      # Stands for the inputs nixpkgs and deploy-rs.
      inherit (import ./nixos.nix) activate nixosSystem;
    in
    {
      nixosConfigurations = builtins.mapAttrs (name: _: nixosSystem name { }) {
        gate = null;
        lamp = null;
        oven = null;
        bell = null;
      };
      colmena = {
        meta.nixpkgs = throw "a whole nixpkgs";
        gate.deployment = {
          targetHost = "gate.example.org";
          targetPort = 2222;
          tags = [ "edge" ];
        };
        lamp =
          { name, ... }:
          {
            deployment.targetHost = "${name}.example.org";
          };
      };
      deploy = {
        user = "root";
        sudo = "doas -u";
        nodes = {
          oven = {
            hostname = "oven.example.org";
            sshOpts = [
              "-p"
              "22"
              "-i"
              "~/.ssh/id_ed25519"
              "-A"
            ];
            profiles.system = {
              sshUser = "root";
              path = activate self.nixosConfigurations.oven;
            };
          };
          pots = {
            hostname = "pots.example.org";
            profiles.home.path = throw "home-manager";
          };
        };
      };
    };
}
