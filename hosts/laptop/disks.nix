# An encrypted disk with UEFI. To replace: the names of the partitions, or make yours have them:
#   parted /dev/nvme0n1 -- mklabel gpt mkpart boot fat32 1MiB 1GiB set 1 esp on mkpart root 1GiB 100%
#   mkfs.vfat -n BOOT /dev/disk/by-partlabel/boot
#   cryptsetup luksFormat /dev/disk/by-partlabel/root && cryptsetup open /dev/disk/by-partlabel/root root
#   mkfs.ext4 -L nixos /dev/mapper/root
{
  boot.initrd.luks.devices.root = {
    device = "/dev/disk/by-partlabel/root";
    allowDiscards = true; # or the SSD slows down; it shows which blocks are in use
  };

  fileSystems."/" = {
    device = "/dev/mapper/root";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/BOOT";
    fsType = "vfat";
    options = [ "umask=0077" ];
  };

  boot.initrd.availableKernelModules = [
    "nvme"
    "sd_mod"
    "thunderbolt"
    "usb_storage"
    "xhci_pci"
  ];
}
