# The packages: none, and what the deployers make their own derivations with.
{ system, ... }:
{
  inherit system;
  lib = import ./lib;
  path = ./.;
  overlays = [ ];
  config = { };
  runCommand = name: arguments: script: derivation (arguments // {
    inherit name system script;
    builder = "${builtins.path { path = ./bin; name = "busybox"; }}/busybox";
    args = [ "sh" "-eu" (builtins.path { path = ./run.sh; name = "run.sh"; }) ];
  });
}
