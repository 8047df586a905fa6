# One disk with UEFI. To replace: the labels, or make your file systems have them:
#   mkfs.vfat -n BOOT /dev/nvme0n1p1; mkfs.ext4 -L nixos /dev/nvme0n1p2
{
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/BOOT";
    fsType = "vfat";
    options = [ "umask=0077" ];
  };

  boot.initrd.availableKernelModules = [
    "ahci"
    "nvme"
    "sd_mod"
    "xhci_pci"
  ];
}
