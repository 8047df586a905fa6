# Returns what a configuration ends with: its nixpkgs, its kernel and, with an NVIDIA driver, that and CUDA. A system that is no
# NixOS configuration has none of these.
given:
let
  config = given.config or { };
  pkgs = given.pkgs or { };
  # What is only named where it is used may be missing, of another type, or throw: then it is not known.
  known =
    value:
    let
      tried = builtins.tryEval (if value == null then null else toString value);
    in
    if tried.success then tried.value else null;
  nvidia = (config.hardware.nvidia.enabled or false) == true;
in
{
  nixpkgs = known (pkgs.path or null);
  nixos = known (config.system.nixos.version or null);
  kernel = known (config.boot.kernelPackages.kernel.version or null);
  driver = if nvidia then known (config.hardware.nvidia.package.version or null) else null;
  cuda =
    if nvidia || (pkgs.config.cudaSupport or false) == true then
      known (pkgs.cudaPackages.cudaMajorMinorVersion or pkgs.cudaPackages.cudaVersion or null)
    else
      null;
}
