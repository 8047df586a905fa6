# A Raspberry Pi 4 on a cable, installed from NixOS's image for SD cards.
{
  nixos-hardware,
  pkgs,
  ...
}:
{
  imports = [
    ./disks.nix
    "${nixos-hardware}/raspberry-pi/4"
  ];

  # NixOS's own kernel comes from the binary cache; the vendor's would have to be built.
  boot.kernelPackages = pkgs.linuxPackages;
  boot.kernelModules = [ "bcm2835_wdt" ]; # the watchdog
  boot.loader.grub.enable = false;
  boot.loader.generic-extlinux-compatible.enable = true;

  hardware.enableRedistributableFirmware = true;
  zramSwap.enable = true;
  # Little writing to the card.
  documentation.enable = false;

  services.fleet.base = {
    enable = true;
    authorizedKeys = import ../keys.nix;
  };
  services.fleet.edge.enable = true;

  # The release this host was installed with. It never changes: see the manual of NixOS.
  system.stateVersion = "26.05"; # yours
}
