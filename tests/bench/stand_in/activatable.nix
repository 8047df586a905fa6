# A profile for deploy-rs: the system, with the two programs that deploy-rs starts on the host.
{ given, pkgs }:
let
  inherit ((import ./module.nix given).system.build) toplevel;
  program = builtins.appendContext given.activate { ${given.activate}.path = true; };
in
pkgs.runCommand "activatable-nixos-system"
  {
    activate = ''
      #!/bin/sh
      action=switch
      [ "$DRY_ACTIVATE" != 1 ] || action=dry-activate
      [ "$BOOT" != 1 ] || action=boot
      exec "$PROFILE"/bin/switch-to-configuration "$action"
    '';
    helper = ''
      #!/bin/sh
      exec ${program}/activate "$@"
    '';
  } ''
  mkdir -p $out
  ln -s ${toplevel}/* $out/
  echo "$activate" >$out/deploy-rs-activate
  echo "$helper" >$out/activate-rs
  chmod 755 $out/deploy-rs-activate $out/activate-rs
''
