# Stands for colmena's src/nix/hive/eval.nix.
{ rawHive }: (import ../nixos.nix).makeHive rawHive
