# The text of the host program: its parts one after another, in the order of parts.txt. fleet/host/program.py makes the same.
let
  lines = builtins.filter builtins.isString (builtins.split "\n" (builtins.readFile ./parts.txt));
in
builtins.concatStringsSep "" (
  map (name: builtins.readFile (./. + "/${name}")) (builtins.filter (line: line != "") lines)
)
