# As much of nixpkgs as modules/ read, for a host of this system.
{ lib, system ? "x86_64-linux" }:
let
  package = name: version: { type = "derivation"; inherit name version; outPath = "/usr"; };
in
{
  cudaPackages.cudaMajorMinorVersion = "12.9";
  linuxPackages.nvidiaPackages = lib.mapAttrs package {
    beta = "585.10";
    dc = "580.82.07";
    latest = "582.05";
    legacy_470 = "470.256.02";
    production = "580.95.05";
    stable = "580.95.05";
  };
  # On a lab host it is where a test puts it.
  writeScript = name: text: { type = "derivation"; inherit name text; outPath = "/opt/${name}"; };
  git = package "git" "2.51.2";
  nix = package "nix" "2.31.2";
  openssh = package "openssh" "10.2p1";
  stdenv.hostPlatform = lib.systems.elaborate system;
}
