# A stand-in for what modules/ set of microvm.nix in a guest.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  of = type: default: mkOption { inherit type default; };
in
{
  options.microvm = {
    hypervisor = of (types.enum [ "qemu" "cloud-hypervisor" "firecracker" "crosvm" "kvmtool" "stratovirt" "alioth" "vfkit" ]) "qemu";
    vcpu = of types.ints.positive 1;
    mem = of types.ints.positive 512;
    interfaces = of (types.listOf (types.submodule {
      options = {
        type = mkOption { type = types.enum [ "user" "tap" "macvtap" "bridge" ]; };
        id = mkOption { type = types.str; };
        mac = mkOption { type = types.str; };
      };
    })) [ ];
    shares = of (types.listOf (types.submodule {
      options = {
        tag = mkOption { type = types.str; };
        source = mkOption { type = types.nonEmptyStr; };
        mountPoint = mkOption { type = types.path; };
        proto = of (types.enum [ "9p" "virtiofs" ]) "9p";
      };
    })) [ ];
    volumes = of (types.listOf types.attrs) [ ];
    credentialFiles = of (types.attrsOf types.path) { };
  };
}
