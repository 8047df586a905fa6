# A laptop with UEFI and an encrypted disk. Its desktop is yours to add.
{ pkgs, ... }:
{
  imports = [ ./disks.nix ];

  boot.loader.systemd-boot = {
    enable = true;
    configurationLimit = 10;
  };
  boot.loader.efi.canTouchEfiVariables = true;

  hardware.enableRedistributableFirmware = true;
  hardware.cpu.amd.updateMicrocode = true;
  hardware.cpu.intel.updateMicrocode = true;
  services.fwupd.enable = true;
  services.fstrim.enable = true;
  zramSwap.enable = true;

  # Power and sleep. A laptop that falls asleep during a deployment finds the deadline over when it wakes up, and goes
  # back by itself.
  services.power-profiles-daemon.enable = true;
  services.upower.enable = true;
  services.logind.settings.Login = {
    HandleLidSwitch = "suspend";
    HandleLidSwitchExternalPower = "ignore";
  };

  networking.networkmanager.enable = true;
  time.timeZone = "Europe/Berlin"; # yours

  services.fleet.base = {
    enable = true;
    authorizedKeys = import ../keys.nix;
  };
  services.fleet.gc.enable = true;

  # yours: the name of the user
  users.users.you = {
    isNormalUser = true;
    extraGroups = [
      "networkmanager"
      "wheel"
    ];
    # On the laptop itself, and not in this repository: mkpasswd > /mnt/etc/nixos/you.password, before nixos-install.
    hashedPasswordFile = "/etc/nixos/you.password"; # yours
  };

  environment.systemPackages = [ pkgs.git ];

  # The release this host was installed with. It never changes: see the manual of NixOS.
  system.stateVersion = "26.05"; # yours
}
