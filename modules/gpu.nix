# An NVIDIA GPU for computing: the driver and the CUDA packages fit together, on every host of one purpose.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.fleet.gpu;
  inherit (lib) mkOption types;
  driver = config.hardware.nvidia.package.version;
  cuda = pkgs.cudaPackages.cudaMajorMinorVersion;
  # Before what a profile of NixOS has by mkDefault, and after what a host says.
  preferred = lib.mkOverride 900;

  version = types.strMatching "[0-9]+(\\.[0-9]+)*" // {
    description = "version such as 570.86";
  };
  capability = types.strMatching "[0-9]+\\.[0-9]+[af]?" // {
    description = "compute capability such as 8.9 or 9.0a (nvidia-smi --query-gpu=compute_cap)";
  };

  # The oldest Linux driver for each major version of CUDA: "CUDA Toolkit release notes", minor version compatibility.
  oldestDrivers = {
    "11" = "450.80.02";
    "12" = "525.60.13";
    "13" = "580.65.06";
  };
  oldestForCuda = oldestDrivers.${lib.versions.major cuda} or "0";
in
{
  options.services.fleet.gpu = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether this host computes on NVIDIA GPUs: driver, persistence daemon, and packages that are built with CUDA.

        The driver and CUDA are unfree; accept that in the host's configuration, by nixpkgs.config.allowUnfreePackages
        or nixpkgs.config.allowUnfree. Versions come from nixpkgs, so what pins them is flake.lock. A new driver runs
        only after a reboot: declare a check `gpu = true` in fleet.toml, which tells.

        With `hardware.nvidia.datacenter.enable` the driver is the one for data centers. A host whose packages come
        from `nixpkgs.pkgs` cannot use this: NixOS refuses it with nixpkgs.config. Give these packages cudaSupport and
        cudaCapabilities where they are made, and let NixOS's own options do the rest.
      '';
    };

    open = mkOption {
      type = types.bool;
      default = true;
      description = "Whether to use NVIDIA's open kernel modules. False for GPUs older than Turing (2018).";
    };

    branch = mkOption {
      type = types.nullOr types.singleLineStr;
      default = null;
      example = "production";
      description = "Branch of the driver, one of nixpkgs' `nvidiaPackages`. null: what NixOS takes by default.";
    };

    minDriver = mkOption {
      type = types.nullOr version;
      default = null;
      example = "570.86";
      description = "The oldest driver that this host may get. The same number belongs in the `gpu` check of fleet.toml.";
    };

    cudaPackages = mkOption {
      type = types.nullOr (types.strMatching "cudaPackages(_[0-9]+)+");
      default = null;
      example = "cudaPackages_12_9";
      description = ''
        The set of CUDA packages that everything on this host is built with. null: what nixpkgs takes by default.
        nixpkgs removes old sets from time to time; then the evaluation says which there are.
      '';
    };

    capabilities = mkOption {
      type = types.listOf capability;
      default = [ ];
      example = [ "9.0" ];
      description = ''
        Compute capabilities to build for. Empty: all that nixpkgs builds for, which takes much longer and more space.
      '';
    };

    pin = mkOption {
      type = types.nullOr (types.attrsOf types.unspecified);
      readOnly = true;
      internal = true;
      default =
        if cfg.enable then
          {
            inherit driver cuda;
            inherit (cfg) capabilities open;
          }
        else
          null;
      description = "What must be equal on all GPU hosts of one tag: `lib.mkFleet` compares it.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.minDriver == null || lib.versionAtLeast driver cfg.minDriver;
        message = ''
          services.fleet.gpu.minDriver is ${toString cfg.minDriver}, and the NVIDIA driver would be ${driver}: update
          nixpkgs in flake.lock, choose another services.fleet.gpu.branch, or lower minDriver.
        '';
      }
      {
        assertion = lib.versionAtLeast driver oldestForCuda;
        message = ''
          CUDA ${cuda} needs an NVIDIA driver of ${oldestForCuda} or later, and it would be ${driver}: choose another
          services.fleet.gpu.branch, or an older services.fleet.gpu.cudaPackages.
        '';
      }
      {
        assertion = lib.allUnique cfg.capabilities;
        message = "services.fleet.gpu.capabilities names a capability twice: ${toString cfg.capabilities}";
      }
    ];

    hardware.graphics.enable = true;
    hardware.nvidia = {
      open = preferred cfg.open;
      nvidiaPersistenced = preferred true;
      branch = lib.mkIf (cfg.branch != null) cfg.branch;
    };
    # Loads the driver; no X server comes with it. That for data centers NixOS loads by itself, and not both.
    services.xserver.videoDrivers = lib.mkIf (!config.hardware.nvidia.datacenter.enable) [ "nvidia" ];

    # The option is no set of options: a mkIf in it would stay as it is.
    nixpkgs.config = {
      cudaSupport = true;
    }
    // lib.optionalAttrs (cfg.capabilities != [ ]) { cudaCapabilities = cfg.capabilities; };
    nixpkgs.overlays = lib.optional (cfg.cudaPackages != null) (
      final: prev: {
        cudaPackages =
          final.${cfg.cudaPackages} or (throw ''
            services.fleet.gpu.cudaPackages is ${cfg.cudaPackages}, which this nixpkgs does not have. It has ${
              lib.concatStringsSep ", " (lib.filter (lib.hasPrefix "cudaPackages_") (lib.attrNames prev))
            }.
          '');
      }
    );
  };
}
