# The lab's hosts. No inputs, so it evaluates and builds without any network.
{
  description = "A disposable fleet, made by `fleet lab up`";

  outputs = { self }:
    let
      inventory = builtins.fromTOML (builtins.readFile ./fleet.toml);
      defaults = inventory.defaults or { };
      closure = name: host: import ./system.nix {
        inherit name;
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
