# Returns the derivation and the path of a system, which is given as a NixOS configuration or as its derivation.
given:
let
  system =
    if given ? config.system.build.toplevel then given.config.system.build.toplevel else given;
in
{
  drv = system.drvPath;
  out = system.outPath;
}
