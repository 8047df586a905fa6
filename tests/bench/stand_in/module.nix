# The configuration of each host: a system that is in the store already, with its derivation.
given:
let
  inherit (given) derivation closure;
  known = path: context: builtins.appendContext path { ${derivation} = context; };
in
{
  system.build.toplevel = {
    type = "derivation";
    name = "nixos-system";
    inherit (given) system;
    outputName = "out";
    drvPath = known derivation { allOutputs = true; };
    outPath = known closure { outputs = [ "out" ]; };
  };
}
