# A stand-in for what modules/ set of microvm.nix on a host, with its names and types. FLEET_MICROVM names the real one:
# a folder with nixos-modules.
{ lib, ... }:
let
  inherit (lib) mkOption types;
in
{
  options.microvm.vms = mkOption {
    default = { };
    type = types.attrsOf (types.submodule {
      options = {
        autostart = mkOption { type = types.bool; default = true; };
        config = mkOption {
          type = lib.mkOptionType {
            name = "configuration of a guest";
            merge = _: definitions: import ./nixpkgs/nixos/lib/eval-config.nix {
              inherit lib;
              modules = map (definition: definition.value) definitions ++ [ ./microvm-guest.nix ];
            };
          };
        };
      };
    });
  };
}
