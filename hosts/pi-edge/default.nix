# A Raspberry Pi 4, installed from NixOS's image for SD cards. To replace: the keys.
{
  lib,
  nixos-hardware,
  pkgs,
  ...
}:
{
  imports = [ nixos-hardware.nixosModules.raspberry-pi-4 ];

  # NixOS's own kernel comes from the binary cache; the vendor's would have to be built.
  boot.kernelPackages = pkgs.linuxPackages;
  boot.loader.grub.enable = false;
  boot.loader.generic-extlinux-compatible = {
    enable = true;
    configurationLimit = 5;
  };

  fileSystems."/" = {
    device = "/dev/disk/by-label/NIXOS_SD";
    fsType = "ext4";
    options = [ "noatime" ];
  };

  hardware.enableRedistributableFirmware = true;
  services.timesyncd.enable = lib.mkDefault true;

  services.fleet.base = {
    enable = true;
    authorizedKeys = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEdy1O4RrRfvmFzGMLzwmP1bs5JEaGBSjPw3YFTCXq7V you@controller" ];
  };

  # The release this host was installed with. It never changes: see the manual of NixOS.
  system.stateVersion = "26.05";
}
