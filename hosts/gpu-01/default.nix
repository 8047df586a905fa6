# A server with an NVIDIA GPU and UEFI, which serves language models.
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

  # NVIDIA's driver and CUDA: this accepts their licences.
  nixpkgs.config.allowUnfree = true;
  services.fleet.gpu = {
    enable = true;
    open = true; # yours: false for a GPU older than Turing
    capabilities = [ "9.0" ]; # yours: what nvidia-smi --query-gpu=compute_cap says
    minDriver = "570.86"; # yours: the same as in the check of fleet.toml
  };

  # Answers on http://127.0.0.1:11434; models are in /var/lib/ollama, and not part of the system.
  services.ollama = {
    enable = true;
    package = pkgs.ollama-cuda;
  };

  services.fleet.base = {
    enable = true;
    authorizedKeys = import ../keys.nix;
  };
  services.fleet.gc = {
    enable = true;
    keep = 10;
  };
  # Builds for the Raspberry Pi too. Which hosts and people may build here: services.fleet.builder.authorizedKeys.
  services.fleet.builder.emulatedSystems = [ "aarch64-linux" ];

  # The release this host was installed with. It never changes: see the manual of NixOS.
  system.stateVersion = "26.05"; # yours
}
