# Fetches a model: the same derivation as modules/models.nix makes, so that its path is the one that a system names.
{ name, url, hash }:
derivation {
  inherit name url;
  system = "builtin";
  builder = "builtin:fetchurl";
  urls = [ url ];
  outputHash = hash;
  outputHashMode = "flat";
  executable = false;
  unpack = false;
  preferLocalBuild = true;
}
