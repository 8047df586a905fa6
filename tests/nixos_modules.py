"""What modules/ configure a host to, by the real library of nixpkgs and stand-ins for NixOS's own options."""

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
MODULES = tuple(sorted(path.stem for path in (ROOT / "modules").glob("*.nix")))
needs_lib = pytest.mark.skipif(not LIB, reason="FLEET_NIXPKGS_LIB does not name nixpkgs' lib")
_PACKAGES = '{ cudaPackages.cudaMajorMinorVersion = "12.9"; }'


class RefusedError(AssertionError):
    """Nix did not evaluate it."""


def run(*argv: str) -> str:
    """What the command printed; it succeeded, or RefusedError has its stderr."""
    # Without a network Nix asks each cache for minutes, and it must not need any.
    environment = {**os.environ, "NIX_CONFIG": "build-users-group =\nsubstituters ="}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=120, check=False)
    if done.returncode:
        raise RefusedError(done.stderr)
    return done.stdout


def configured(modules: tuple[str, ...], settings: str, wanted: str, *, journald: str = "26.11") -> Any:
    """What `wanted`, an expression of `config`, is on a host with these modules and settings."""
    files = " ".join(str(ROOT / "modules" / f"{module}.nix") for module in modules)
    text = f"""
      let
        lib = import {LIB};
        modules = [
          {DATA}/options.nix {DATA}/journald-{journald}.nix {files}
          {{ _module.args.pkgs = {_PACKAGES}; }}
          ({settings})
        ];
        inherit (lib.evalModules {{ inherit modules; }}) config options;
      in
      {wanted}
    """
    return json.loads(run("nix-instantiate", "--eval", "--strict", "--json", "--expr", text))


def complaints(modules: tuple[str, ...], settings: str) -> list[str]:
    """The messages of the assertions that these settings break."""
    failed = "map (a: a.message) (lib.filter (a: !a.assertion) config.assertions)"
    found: list[str] = configured(modules, settings, failed)
    return [" ".join(message.split()) for message in found]
