"""The example fleet as Nix sees it: with a stand-in for nixpkgs, and with its real lib where that is given."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fleet import inventory, nix

ROOT = Path(__file__).parent.parent.parent
LIB = os.environ.get("FLEET_NIXPKGS_LIB", "")
NIX_FILES = sorted(
    path
    for path in ROOT.rglob("*.nix")
    if not any(part.startswith(".") or part == "lab" for part in path.relative_to(ROOT).parts[:1])
)
PARTS = ("flake.nix", "flake.lock", "fleet.toml", "package.nix", "lib", "hosts", "modules", "templates")
NIXPKGS = """
{
  outputs = { self }:
    let
      derivationOf = system: name: derivation { inherit system name; builder = "/bin/sh"; args = [ "-c" ">$out" ]; };
      names = [ "git" "mypy" "openssh" "python3" "ruff" "shellcheck" "nixfmt-tree" ];
      packages = system:
        builtins.listToAttrs (map (name: { inherit name; value = derivationOf system name; }) names) // {
          stdenv.hostPlatform = { inherit system; };
          callPackage = file: arguments: derivationOf system (baseNameOf file);
          mkShell = arguments: derivationOf system "shell";
        };
    in
    {
      lib.nixosSystem = given: { inherit given; config.system.build.toplevel = derivationOf "x86_64-linux" "system"; };
      legacyPackages = { x86_64-linux = packages "x86_64-linux"; aarch64-linux = packages "aarch64-linux"; };
    };
}
"""
HARDWARE = "{ outputs = { self }: { nixosModules.raspberry-pi-4 = { }; }; }"
OPTIONS = """
{ lib, ... }:
let
  inherit (lib) mkOption types;
  of = type: default: mkOption { inherit type default; };
in
{
  options = {
    assertions = of (types.listOf types.unspecified) [ ];
    users.users = of (types.attrsOf (types.submodule {
      options.isNormalUser = of types.bool false;
      options.description = of types.str "";
      options.openssh.authorizedKeys.keys = of (types.listOf types.singleLineStr) [ ];
    })) { };
    security.sudo.extraRules = of (types.listOf types.attrs) [ ];
    services.openssh.enable = of types.bool false;
    services.openssh.settings = of (types.attrsOf types.anything) { };
    services.openssh.extraConfig = of types.lines "";
  };
}
"""

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
needs_lib = pytest.mark.skipif(not LIB, reason="FLEET_NIXPKGS_LIB does not name nixpkgs' lib")


@pytest.fixture
def flake(tmp_path: Path) -> Path:
    """A copy of the flake without the rest of the repository, and stand-ins for its inputs beside it."""
    copy = tmp_path / "flake"
    copy.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, copy / part)
        else:
            shutil.copy(ROOT / part, copy)
    for name, text in (("nixpkgs", NIXPKGS), ("nixos-hardware", HARDWARE)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "flake.nix").write_text(text)
    return copy


def run(*argv: str) -> str:
    # Without a network Nix asks each cache for minutes, and it must not need any.
    environment = {**os.environ, "NIX_CONFIG": "build-users-group =\nsubstituters ="}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_stand_ins(flake: Path) -> list[str]:
    flags = ["--no-write-lock-file"]
    for name in ("nixpkgs", "nixos-hardware"):
        flags += ["--override-input", name, f"path:{flake.parent / name}"]
    return flags


def evaluate(flake: Path, output: str, apply: str) -> Any:
    return json.loads(
        run(*nix.NIX, "eval", "--json", f"path:{flake}#{output}", "--apply", apply, *with_stand_ins(flake))
    )


@pytest.mark.parametrize("path", NIX_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_nix_file_parses(path: Path) -> None:
    run("nix-instantiate", "--parse", str(path))


def test_the_lock_file_is_accepted_without_a_network(flake: Path) -> None:
    described = json.loads(run(*nix.NIX, "flake", "metadata", "--json", "--no-update-lock-file", f"path:{flake}"))
    assert set(described["locks"]["nodes"]["root"]["inputs"]) == {"nixpkgs", "nixos-hardware"}


def test_there_is_one_configuration_for_each_host_of_fleet_toml(flake: Path) -> None:
    hosts = inventory.load(ROOT / "fleet.toml").hosts
    assert evaluate(flake, "nixosConfigurations", "builtins.attrNames") == sorted(hosts)


def test_fleet_finds_the_closures_of_the_example(flake: Path) -> None:
    hosts = inventory.load(ROOT / "fleet.toml").hosts.values()
    attributes = " ".join(f"{nix.quoted(host.name)} = o.{'.'.join(map(nix.quoted, host.attr[1:]))};" for host in hosts)
    found = evaluate(flake, "nixosConfigurations", f"o: builtins.mapAttrs (_: c: c.drvPath) {{ {attributes} }}")
    assert set(found) == {host.name for host in hosts}


def test_a_host_without_a_folder_is_named(flake: Path) -> None:
    shutil.rmtree(flake / "hosts" / "pi-edge")
    apply = "hosts: map builtins.typeOf hosts.pi-edge.given.modules"
    with pytest.raises(AssertionError, match=r"has a host pi-edge, and there is no folder \S+/hosts/pi-edge"):
        evaluate(flake, "nixosConfigurations", apply)


def test_lib_and_modules_need_no_input(flake: Path) -> None:
    for output in ("lib", "nixosModules"):
        run(*nix.NIX, "eval", "--json", f"path:{flake}#{output}", "--apply", "builtins.attrNames")


def test_the_flake_check_of_old_nix_passes(flake: Path) -> None:
    run(*nix.NIX, "flake", "check", "--no-build", f"path:{flake}", *with_stand_ins(flake))


def test_the_template_makes_its_host(flake: Path) -> None:
    template = flake.parent / "template"
    shutil.copytree(ROOT / "templates" / "default", template)
    flags = ["--no-write-lock-file", "--override-input", "fleet", f"path:{flake}"]
    flags += ["--override-input", "nixpkgs", f"path:{flake.parent / 'nixpkgs'}"]
    flags += ["--override-input", "fleet/nixos-hardware", f"path:{flake.parent / 'nixos-hardware'}"]
    names = run(
        *nix.NIX, "eval", "--json", f"path:{template}#nixosConfigurations", "--apply", "builtins.attrNames", *flags
    )
    assert json.loads(names) == list(inventory.load(template / "fleet.toml").hosts)


def base(tmp_path: Path, settings: str) -> Any:
    """What a host is configured to with these settings of `services.fleet.base`."""
    (tmp_path / "options.nix").write_text(OPTIONS)
    text = f"""
      let
        lib = import {LIB};
        modules = [ {tmp_path}/options.nix {ROOT}/modules/base.nix {settings} ];
        inherit (lib.evalModules {{ inherit modules; }}) config;
      in
      {{ inherit (config) assertions users security services; }}
    """
    return json.loads(run("nix-instantiate", "--eval", "--strict", "--json", "--expr", text))


@needs_lib
def test_base_lets_its_user_in_and_up(tmp_path: Path) -> None:
    settings = """{ services.fleet.base = { enable = true; user = "ops"; authorizedKeys = [ "ssh-ed25519 AAAA a" ]; };
      services.openssh.extraConfig = "AllowTcpForwarding no"; }"""
    config = base(tmp_path, settings)
    assert config["users"]["users"]["ops"]["openssh"]["authorizedKeys"]["keys"] == ["ssh-ed25519 AAAA a"]
    assert config["security"]["sudo"]["extraRules"] == [
        {"users": ["ops"], "commands": [{"command": "ALL", "options": ["NOPASSWD"]}]}
    ]
    sshd = config["services"]["openssh"]["extraConfig"].splitlines()
    assert sshd.index("Match User ops") > sshd.index("AllowTcpForwarding no")
    assert all(assertion["assertion"] for assertion in config["assertions"])


@needs_lib
def test_base_does_nothing_unless_enabled(tmp_path: Path) -> None:
    config = base(tmp_path, "{ }")
    assert config["users"]["users"] == {}
    assert config["services"]["openssh"]["enable"] is False


@needs_lib
def test_base_refuses_to_lock_everybody_out(tmp_path: Path) -> None:
    config = base(tmp_path, "{ services.fleet.base.enable = true; }")
    failed = [assertion["message"] for assertion in config["assertions"] if not assertion["assertion"]]
    assert failed == ["services.fleet.base.authorizedKeys is empty: nobody could deploy to this host any more"]


@needs_lib
@pytest.mark.parametrize(
    "wrong",
    ['user = "Not A User"', "user = 1", 'authorizedKeys = "one"', 'authorizedKeys = [ "a\\nb" ]', "enabled = true"],
)
def test_base_refuses_values_of_the_wrong_type(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(AssertionError, match=r"services\.fleet\.base"):
        base(tmp_path, f"{{ services.fleet.base = {{ enable = true; {wrong}; }}; }}")


@needs_lib
def test_the_package_is_described_by_pyproject_toml() -> None:
    text = f"""
      let
        # The real one needs a newer Nix than the oldest that fleet works with.
        lib = import {LIB} // {{ fileset = {{ unions = lib.id; toSource = from: from.fileset; }}; }};
        names = lib.genAttrs [ "asyncssh" "click" "hatchling" "pydantic" "rich" "testcontainers" "tomli-w" ];
        python3Packages = names (name: name) // {{ buildPythonApplication = lib.id; }};
        package = import {ROOT}/package.nix {{
          inherit lib python3Packages;
          gitMinimal = "/git";
          openssh = "/openssh";
        }};
      in
      {{ inherit (package) pname version dependencies meta; files = map baseNameOf package.src; }}
    """
    package = json.loads(run("nix-instantiate", "--eval", "--strict", "--json", "--expr", text))
    assert (package["pname"], package["meta"]["mainProgram"]) == ("fleet", "fleet")
    assert set(package["files"]) == {"LICENSE", "README.md", "fleet", "pyproject.toml"}
    assert package["dependencies"] == ["asyncssh", "click", "pydantic", "rich", "tomli-w"]
