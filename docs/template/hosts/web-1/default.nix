# To replace: the boot loader and the disks by what `nixos-generate-config` writes on the host, and the key.
{
  boot.loader.systemd-boot.enable = true;
  boot.loader.efi.canTouchEfiVariables = true;

  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/BOOT";
    fsType = "vfat";
    options = [ "umask=0077" ];
  };

  services.fleet.base = {
    enable = true;
    authorizedKeys = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEdy1O4RrRfvmFzGMLzwmP1bs5JEaGBSjPw3YFTCXq7V you@controller" ];
  };

  services.nginx.enable = true;
  services.nginx.virtualHosts.default = {
    default = true;
    locations."/".return = ''200 "web-1\n"'';
  };
  networking.firewall.allowedTCPPorts = [ 80 ];

  # The release this host was installed with. It never changes: see the manual of NixOS.
  system.stateVersion = "26.05";
}
