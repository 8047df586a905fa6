# What morph deploys from. It evaluates without a flake.
let
  given = builtins.fromJSON (builtins.readFile ./given.json);
  pkgs = import given.nixpkgs { inherit (given) system; };
in
pkgs.lib.genAttrs given.hosts (_: import ./module.nix given) // {
  network = { inherit pkgs; };
}
