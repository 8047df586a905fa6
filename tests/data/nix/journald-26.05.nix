{ lib, ... }:
{
  options.services.journald.storage = lib.mkOption {
    type = lib.types.enum [ "persistent" "volatile" "auto" "none" ];
    default = "persistent";
  };
  options.services.journald.extraConfig = lib.mkOption {
    type = lib.types.lines;
    default = "";
  };
}
