# One disk with UEFI. The labels are yours, or make your file systems have these:
#   mkfs.vfat -n BOOT /dev/nvme0n1p1; mkfs.ext4 -L nixos /dev/nvme0n1p2
{
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos"; # yours
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/BOOT"; # yours
    fsType = "vfat";
    options = [ "umask=0077" ];
  };

  # yours: what nixos-generate-config --show-hardware-config says, or the disk is not found.
  boot.initrd.availableKernelModules = [
    "ahci"
    "nvme"
    "sd_mod"
    "xhci_pci"
  ];
}
