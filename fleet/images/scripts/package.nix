# Returns what an image of a package is made from. Programs may be in an output of their own.
package:
let
  programs = package.bin or package;
in
{
  drv = package.drvPath;
  out = programs.outPath;
  name = package.pname or (builtins.parseDrvName package.name).name;
  program = package.meta.mainProgram or "";
  system = package.system;
}
