# An encrypted disk with UEFI. The names of the partitions are yours, or make yours have these:
#   parted /dev/nvme0n1 -- mklabel gpt mkpart boot fat32 1MiB 1GiB set 1 esp on mkpart root 1GiB 100%
#   mkfs.vfat -n BOOT /dev/disk/by-partlabel/boot
#   cryptsetup luksFormat /dev/disk/by-partlabel/root && cryptsetup open /dev/disk/by-partlabel/root root
#   mkfs.ext4 -L nixos /dev/mapper/root
{
  boot.initrd.luks.devices.root = {
    device = "/dev/disk/by-partlabel/root"; # yours
    allowDiscards = true; # or the SSD slows down; it shows which blocks are in use
  };

  fileSystems."/" = {
    device = "/dev/mapper/root";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/BOOT"; # yours
    fsType = "vfat";
    options = [ "umask=0077" ];
  };

  # yours: what nixos-generate-config --show-hardware-config says, or the disk is not found.
  boot.initrd.availableKernelModules = [
    "nvme"
    "sd_mod"
    "thunderbolt"
    "usb_storage"
    "xhci_pci"
  ];
}
