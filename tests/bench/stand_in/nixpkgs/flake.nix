# As much of nixpkgs as the deployers of the bench ask for. The real library is put beside it.
{
  outputs = _: {
    lib = import ./lib // { nixosSystem = import ./nixos/lib/eval-config.nix; };
    legacyPackages."@system@" = import ./. { system = "@system@"; };
  };
}
