{ lib, ... }:
{
  options.services.journald.settings.Journal = lib.mkOption {
    type = lib.types.attrsOf lib.types.anything;
    default = { };
  };
}
