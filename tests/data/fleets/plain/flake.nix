# A fleet that people switch by nixos-rebuild: hosts, an installer, a virtual machine, and a host that throws.
{
  outputs =
    { self }:
    let
      # Stands for the input nixpkgs.
      inherit (import ./nixos.nix) nixosSystem;
      base = {
        networking = {
          domain = "example.org";
        };
        services.openssh.ports = [ 22 ];
        users.users.ann = {
          isNormalUser = true;
          extraGroups = [ "wheel" ];
          openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAA ann" ];
        };
        security.sudo.wheelNeedsPassword = false;
      };
    in
    {
      nixosConfigurations = {
        desk = nixosSystem "desk" (base // { networking = base.networking // { fqdn = "desk.example.org"; }; });
        "shelf.lan" = nixosSystem "shelf" (base // { services.grafana.enable = true; });
        half = throw "the disk of half is not chosen yet";
        wrong = nixosSystem "wrong" (base // { system.build.toplevel = { }.missing; });
        installer = nixosSystem "installer" { system.build.isoImage = throw "an image"; };
        sandbox = nixosSystem "sandbox" { virtualisation.diskImage = "./sandbox.qcow2"; };
      };
      darwinConfigurations.laptop.system = (nixosSystem "laptop" { }).config.system.build.toplevel;
    };
}
