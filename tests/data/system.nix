# A system to push: all that the parts are, and nothing that runs.
{ name, bin, parts }:
derivation {
  name = "nixos-system-${name}";
  system = builtins.currentSystem;
  builder = "${builtins.path { path = bin; name = "bb"; }}/busybox";
  args = [ "sh" "-ec" ''
    b=$builder
    $b mkdir -p $out/bin
    echo $parts > $out/parts
    $b touch $out/nixos-version $out/bin/switch-to-configuration
    $b chmod 755 $out/bin/switch-to-configuration
  '' ];
  inherit parts;
}
