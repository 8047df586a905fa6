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
  writeShellScriptBin = name: text: { type = "derivation"; inherit name text; outPath = "/opt/${name}"; };
  socat = package "socat" "1.8.0.3";
  git = package "git" "2.51.0";
  bash = package "bash" "5.3";
  runCommand = name: _: text: { type = "derivation"; inherit name text; outPath = "/opt/${name}"; };
  closureInfo = { rootPaths }: { type = "derivation"; name = "closure-info"; inherit rootPaths; outPath = "/opt/closure-info"; };
  busybox = package "busybox" "1.37.0";
  cacert = package "nss-cacert" "3.115";
  gawk = package "gawk" "5.3.2";
  getent = package "getent" "2.40";
  iproute2 = package "iproute2" "6.15.0";
  nftables = package "nftables" "1.1.3";
  util-linux = package "util-linux" "2.41";
  wireguard-tools = package "wireguard-tools" "1.0.20250521";
  nix = package "nix" "2.31.2";
  openssh = package "openssh" "10.2p1";
  stdenv.hostPlatform = lib.systems.elaborate system;
}
