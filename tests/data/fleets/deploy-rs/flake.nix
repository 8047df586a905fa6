# A fleet for deploy-rs, which makes a node of each configuration.
{
  outputs =
    { self }:
    let
      # Stands for the inputs nixpkgs and deploy-rs.
      inherit (import ./nixos.nix) activate nixosSystem;
      node = name: configuration: {
        hostname = "${name}.example.org";
        profiles.system.path = activate configuration;
      };
    in
    {
      nixosConfigurations = {
        router = nixosSystem "router" { };
        nas = nixosSystem "nas" {
          services.jellyfin.enable = true;
        };
      };
      deploy = {
        sshUser = "deploy";
        user = "root";
        sshOpts = [ "-oUserKnownHostsFile=known_hosts" ];
        magicRollback = false;
        confirmTimeout = 45;
        nodes = builtins.mapAttrs node self.nixosConfigurations // {
          nas = node "nas" self.nixosConfigurations.nas // {
            remoteBuild = true;
            profiles = {
              system.path = activate self.nixosConfigurations.nas;
              media.path = throw "home-manager";
            };
          };
        };
      };
    };
}
