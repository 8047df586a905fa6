# Weights of models on a host: pinned by their hash, beside the system where they are large, and rolled back with it.
{ config, lib, ... }:
let
  cfg = config.services.fleet.models;
  inherit (lib) mkOption types;

  weights = types.submodule (
    { name, config, ... }:
    {
      options = {
        url = mkOption {
          type = types.strMatching "(https?|file)://[^[:space:]]+" // {
            description = "address of a file, such as https://example.org/weights.gguf";
          };
          example = "https://huggingface.co/Qwen/Qwen3-8B-GGUF/resolve/main/Qwen3-8B-Q4_K_M.gguf";
          description = "Where the file is. It is fetched once, by the machine that deploys.";
        };
        hash = mkOption {
          type = types.strMatching "sha256-[A-Za-z0-9+/]{43}=" // {
            description = "SHA-256 of the file as nix hash file prints it, such as sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
          };
          description = "The hash of the file: other contents are never taken for this model.";
        };
        license = mkOption {
          type = types.strMatching "[A-Za-z0-9.+() -]+";
          example = "apache-2.0";
          description = "The license of the weights, which plans tell.";
        };
        size = mkOption {
          type = types.ints.positive;
          example = 5027783488;
          description = "The size of the file in bytes: whether there is room is known before anything is fetched.";
        };
        vram = mkOption {
          type = types.nullOr types.ints.positive;
          default = null;
          example = 8000;
          description = ''
            How many MiB of memory the GPUs of the host must have, all together; null where it does not matter. A host that
            has less is not deployed to.
          '';
        };
        inClosure = mkOption {
          type = types.bool;
          default = config.size < 1073741824;
          defaultText = lib.literalExpression "size < 1 GiB";
          description = ''
            Whether the file is a part of the system, as any other. Otherwise the system only names it: `fleet` brings it
            beside the system, and nothing else does.
          '';
        };
        path = mkOption {
          type = types.path;
          readOnly = true;
          default = "/etc/fleet/models/${name}";
          description = "Where services find the file. It is another file as soon as another system runs.";
        };
      };
    }
  );

  # What fetches it is Nix itself; the path is made of its name and its hash alone. `fleet` makes the same of the list.
  fileOf =
    name: model:
    derivation {
      inherit name;
      inherit (model) url;
      system = "builtin";
      builder = "builtin:fetchurl";
      urls = [ model.url ];
      outputHash = model.hash;
      outputHashMode = "flat";
      executable = false;
      unpack = false;
      preferLocalBuild = true;
    };
  # Without its context a path is only a text, and no part of the system.
  storePathOf =
    name: model:
    let
      path = (fileOf name model).outPath;
    in
    if model.inClosure then path else builtins.unsafeDiscardStringContext path;
  described = name: model: {
    inherit name;
    inherit (model) url hash license size vram inClosure;
    path = builtins.unsafeDiscardStringContext (storePathOf name model);
  };
  list = builtins.toJSON {
    version = 1;
    models = lib.mapAttrsToList described cfg.weights;
  };
  beside = lib.filterAttrs (_: model: !model.inClosure) cfg.weights;
in
{
  options.services.fleet.models.weights = mkOption {
    type = types.attrsOf weights;
    default = { };
    example = lib.literalExpression ''
      {
        "qwen3-8b.gguf" = {
          url = "https://huggingface.co/Qwen/Qwen3-8B-GGUF/resolve/main/Qwen3-8B-Q4_K_M.gguf";
          hash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
          license = "apache-2.0";
          size = 5027783488;
          vram = 8000;
        };
      }
    '';
    description = ''
      The models of this host, by the names that their files have in {file}`/etc/fleet/models`. `fleet plan` tells which of
      them a host gets, and whether there is room for them on its disk and its GPUs.
    '';
  };

  config = lib.mkIf (cfg.weights != { }) {
    assertions = lib.mapAttrsToList (name: _: {
      assertion = builtins.match "[A-Za-z0-9][A-Za-z0-9+._-]{0,200}" name != null;
      message = "services.fleet.models.weights has a model with the name ${name}: it is to be a word such as qwen3-8b.gguf";
    }) cfg.weights;

    # Of a system that its host builds itself, this is all that is known where the models are fetched.
    system.systemBuilderArgs.fleetModels = list;

    environment.etc = {
      "fleet/models.json".text = list;
    }
    // lib.mapAttrs' (name: model: {
      name = "fleet/models/${name}";
      value.source = storePathOf name model;
    }) cfg.weights;

    # A system whose models are not here is not healthy: this unit fails, and the host goes back.
    systemd.services.fleet-models = lib.mkIf (beside != { }) {
      description = "Whether the models of this system are there, which are kept from the garbage collector";
      wantedBy = [ "multi-user.target" ];
      path = [ config.nix.package ];
      environment.MODELS = lib.concatStringsSep " " (lib.mapAttrsToList storePathOf beside);
      script = ''
        roots=/nix/var/nix/gcroots/fleet-models
        mkdir -p "$roots"
        for path in $MODELS; do ln -sfn "$path" "$roots/''${path##*/}"; done
        missing=$(nix-store --check-validity --print-invalid $MODELS)
        if [ -n "$missing" ]; then
          echo "not in the store of this host: $missing; fleet deploy or fleet push brings what a system names" >&2
          exit 1
        fi
      '';
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
      };
    };
  };
}
