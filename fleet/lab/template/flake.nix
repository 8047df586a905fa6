# The lab's hosts. No inputs, so it evaluates and builds without any network.
{
  description = "A disposable fleet, made by `fleet lab up`";

  outputs = { self }:
    let
      inventory = builtins.fromTOML (builtins.readFile ./fleet.toml);
      defaults = inventory.defaults or { };
      # Written by `fleet lab up --vm`: the kernel of VMs, and which hosts are one.
      vms = if builtins.pathExists ./vms.nix then import ./vms.nix else { hosts = [ ]; };
      closure = name: host: import ./system.nix {
        inherit name;
        linux = if builtins.elem name vms.hosts then vms.linux else null;
        system = host.system or defaults.system or "x86_64-linux";
        config = import (./hosts + "/${name}.nix");
      };
    in
    {
      nixosConfigurations = builtins.mapAttrs
        (name: host: { config.system.build.toplevel = closure name host; })
        inventory.hosts;
    };
}
