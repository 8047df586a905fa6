# The text of the program of sandboxes: its parts one after another, in the order of parts.txt. The probe is a file of its own: it runs in the sandbox.
let
  lines = builtins.filter builtins.isString (builtins.split "\n" (builtins.readFile ./parts.txt));
in
builtins.concatStringsSep "" (
  map (name: builtins.readFile (./. + "/${name}")) (builtins.filter (line: line != "") lines)
)
