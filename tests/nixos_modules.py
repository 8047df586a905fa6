"""What modules/ configure a host to, by stand-ins for NixOS's own options and for nixpkgs' library.

Where FLEET_NIXPKGS_LIB names the real library, each configuration is evaluated by both, and they have to agree.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
LIB = os.environ.get("FLEET_NIXPKGS_LIB", "")
DATA = ROOT / "tests" / "data" / "nix"
STAND_IN = str(DATA / "lib.nix")
MICROVM = os.environ.get("FLEET_MICROVM", "")
"""The folder nixos-modules of microvm.nix, whose options are taken instead of the stand-ins then."""
MODULES = tuple(sorted(path.stem for path in (ROOT / "modules").glob("*.nix")))
needs_lib = pytest.mark.skipif(not LIB, reason="FLEET_NIXPKGS_LIB does not name nixpkgs' lib")


class RefusedError(AssertionError):
    """Nix did not evaluate it."""


def run(*argv: str) -> str:
    """What the command printed; it succeeded, or RefusedError has its stderr."""
    return _ran(*argv).stdout


def warned(*argv: str) -> str:
    """What the command said on stderr; it succeeded."""
    return _ran(*argv).stderr


def _ran(*argv: str) -> subprocess.CompletedProcess[str]:
    # Without a network Nix asks each cache for minutes, and it must not need any.
    environment = {**os.environ, "NIX_CONFIG": "build-users-group =\nsubstituters ="}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=120, check=False)
    if done.returncode:
        raise RefusedError(done.stderr)
    return done


def configured(
    modules: tuple[str, ...], settings: str, wanted: str, *, journald: str = "26.11", system: str = "x86_64-linux"
) -> Any:
    """What `wanted`, an expression of `config`, is on a host with these modules and settings.

    Raises RefusedError with what the real library says, or the stand-in where there is no real one.
    """
    files = " ".join(str(ROOT / "modules" / f"{module}.nix") for module in modules)
    text = f"""
      let
        modules = [
          {DATA}/options.nix {DATA}/journald-{journald}.nix {files}
          {{ _module.args.pkgs = import {DATA}/packages.nix {{ inherit lib; system = "{system}"; }}; }}
          ({settings})
        ];
        inherit (lib.evalModules {{ inherit modules; }}) config options;
      in
      {wanted}
    """
    return value_of(text)


def value_of(text: str) -> Any:
    """The value of this expression of `lib`: by the stand-in, and by the real library too where it is there."""
    if not LIB:
        return value_by(STAND_IN, text)
    try:
        found = value_by(LIB, text)
    except RefusedError:
        with pytest.raises(RefusedError):
            value_by(STAND_IN, text)
        raise
    assert value_by(STAND_IN, text) == found, "the stand-in differs from nixpkgs' lib"
    return found


def value_by(lib: str, text: str) -> Any:
    """The value of this expression by one library."""
    return json.loads(
        run("nix-instantiate", "--eval", "--strict", "--json", "--expr", f"let lib = import {lib}; in {text}")
    )


def complaints(modules: tuple[str, ...], settings: str, *, system: str = "x86_64-linux") -> list[str]:
    """The messages of the assertions that these settings break."""
    failed = "map (a: a.message) (lib.filter (a: !a.assertion) config.assertions)"
    found: list[str] = configured(modules, settings, failed, system=system)
    return [" ".join(message.split()) for message in found]


def unit_text(name: str, unit: dict[str, Any], script: str = "") -> str:
    """The unit as NixOS renders it, as far as modules/ use what it has. `script` is where its script lies."""
    ties = {
        key: unit.get(key[0].lower() + key[1:], [])
        for key in ("After", "Before", "BindsTo", "PartOf", "Requires", "Wants")
    }
    sections: dict[str, dict[str, Any]] = {
        "Unit": {"Description": unit["description"], **ties, **unit.get("unitConfig", {})}
    }
    if name.endswith((".timer", ".socket")):
        kind = name.rpartition(".")[2]
        sections[kind.capitalize()] = unit[f"{kind}Config"]
    else:
        # NixOS adds these to every path; on a lab host they are Debian's.
        path = ":".join([*(f"{package}/bin" for package in unit["path"]), "/usr/bin", "/bin"])
        environment = {"PATH": path, **unit["environment"]}
        lines = [f'"{key}={value}"' for key, value in environment.items()]
        sections["Service"] = {"Environment": lines, **unit["serviceConfig"]}
        if unit["script"]:
            sections["Service"]["ExecStart"] = script
    if unit["wantedBy"]:
        sections["Install"] = {"WantedBy": unit["wantedBy"]}
    return "\n".join(_section(title, keys) for title, keys in sections.items())


def _section(title: str, keys: dict[str, Any]) -> str:
    lines = [
        f"{key}={str(each).lower() if isinstance(each, bool) else each}"
        for key, value in keys.items()
        for each in (value if isinstance(value, list) else [value])
    ]
    return "\n".join([f"[{title}]", *lines, ""])


def nix_conf(settings: dict[str, Any]) -> str:
    """nix.conf as NixOS renders `nix.settings`."""
    return "".join(f"{key} = {setting_text(value)}\n" for key, value in settings.items())


def setting_text(value: Any) -> str:
    """One value of it."""
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(value) if isinstance(value, list) else str(value)


def script_text(unit: dict[str, Any]) -> str:
    """The script of a unit as NixOS writes it, for the shell of every system."""
    return f"#!/bin/sh\nset -e\n\n{unit['script']}\n"
