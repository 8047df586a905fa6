# A fleet without flakes: sources pinned by npins, and a hive that people deployed with `colmena apply`. The first two
# lines are what docs/adopting.md asks for.
{
  sources ? import ./npins,
}:
import "${sources.colmena}/eval.nix" { rawHive = import ./hive.nix; }
