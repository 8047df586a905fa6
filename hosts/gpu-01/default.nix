# A server with an NVIDIA GPU and UEFI. To replace: the labels of the disks and the keys; `open = false` for a GPU
# older than Turing.
{ lib, ... }:
{
  boot.loader.systemd-boot = {
    enable = true;
    configurationLimit = 10;
  };
  boot.loader.efi.canTouchEfiVariables = true;
  boot.initrd.availableKernelModules = [
    "ahci"
    "nvme"
    "sd_mod"
    "xhci_pci"
  ];

  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/BOOT";
    fsType = "vfat";
    options = [ "umask=0077" ];
  };

  hardware.enableRedistributableFirmware = true;
  hardware.graphics.enable = true;
  hardware.nvidia = {
    open = true;
    nvidiaPersistenced = true;
  };
  services.xserver.videoDrivers = [ "nvidia" ]; # loads the driver; no X server comes with it
  nixpkgs.config.allowUnfreePredicate =
    package:
    builtins.elem (lib.getName package) [
      "nvidia-persistenced"
      "nvidia-settings"
      "nvidia-x11"
    ];

  services.fleet.base = {
    enable = true;
    authorizedKeys = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEdy1O4RrRfvmFzGMLzwmP1bs5JEaGBSjPw3YFTCXq7V you@controller" ];
  };

  # The release this host was installed with. It never changes: see the manual of NixOS.
  system.stateVersion = "26.05";
}
