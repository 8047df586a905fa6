# Evaluates a host with the options of NixOS that the deployers set or read.
{ modules, system ? null, specialArgs ? { }, ... }:
let
  lib = import ../../lib;
  any = lib.mkOption { type = lib.types.attrsOf lib.types.anything; default = { }; };
  nixos = { config, ... }: {
    options = {
      assertions = lib.mkOption { type = lib.types.listOf lib.types.unspecified; default = [ ]; };
      warnings = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; };
      documentation = any;
      networking.hostName = lib.mkOption { type = lib.types.str; default = "nixos"; };
      nixpkgs.config = any;
      nixpkgs.overlays = lib.mkOption { type = lib.types.listOf lib.types.unspecified; default = [ ]; };
      nixpkgs.pkgs = lib.mkOption { type = lib.types.raw; default = { inherit lib system; }; };
      system.activationScripts = any;
      system.build = lib.mkOption { type = lib.types.attrsOf lib.types.raw; default = { }; };
      system.extraDependencies = lib.mkOption { type = lib.types.listOf lib.types.raw; default = [ ]; };
      system.nixos.release = lib.mkOption { type = lib.types.str; default = lib.trivial.release; };
      systemd.paths = any;
      systemd.services = any;
    };
    config._module.args.pkgs = config.nixpkgs.pkgs;
  };
in
lib.evalModules { modules = modules ++ [ nixos ]; inherit specialArgs; }
