# The card as NixOS's image for SD cards makes it: nothing to replace.
{
  fileSystems."/" = {
    device = "/dev/disk/by-label/NIXOS_SD";
    fsType = "ext4";
    options = [
      "noatime"
      "commit=60" # seconds between two writes of what is not urgent
    ];
  };
  # The firmware's own partition. NixOS does not write to it.
  fileSystems."/boot/firmware" = {
    device = "/dev/disk/by-label/FIRMWARE";
    fsType = "vfat";
    options = [
      "noauto"
      "nofail"
    ];
  };
}
