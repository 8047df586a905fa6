"""Closures to push: of many paths that nobody has, and what a host has of them."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from tests.containers.driver import new_version
from tests.pushes import system

if TYPE_CHECKING:
    from fleet.lab import LabHost
    from tests.containers.driver import Stage

PARTS = """
let
  b = "${{builtins.path {{ path = {bin}; name = "bb"; }}}}/busybox";
  part = n: derivation {{
    name = "part-${{toString n}}-{version}";
    system = "x86_64-linux";
    builder = b;
    # The shell stays: dd alone would close its output, which Nix takes for the end, and kills it.
    args = [ "sh" "-ec" "${{b}} dd if=/dev/urandom of=$out bs=1k count={kib} 2>/dev/null; ${{b}} true" ];
  }};
in builtins.genList part {count}
"""


def many(stage: Stage, *, count: int = 12, kib: int = 64) -> str:
    """A closure of so many paths, built here, that no host has."""
    version = new_version() + os.urandom(3).hex()
    parts = PARTS.format(bin=stage.lab.folder.path / "bin", version=version, count=count, kib=kib)
    return build(stage, f"many-{version}", f"({parts})")


def build(stage: Stage, name: str, parts: str) -> str:
    """The closure of a system that is made of the parts, a Nix expression of a list. Built here."""
    expression = system(name, parts, bin_folder=stage.lab.folder.path / "bin")
    argv = ["nix-build", "--no-out-link", "--option", "sandbox", "false", "-E", expression]
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=stage.environment).stdout.strip()


def nar_bytes(*paths: str) -> int:
    done = subprocess.run(["nix-store", "--query", "--size", *paths], check=True, capture_output=True, text=True)
    return sum(map(int, done.stdout.split()))


def requisites(closure: str) -> list[str]:
    done = subprocess.run(["nix-store", "--query", "--requisites", closure], check=True, capture_output=True, text=True)
    return done.stdout.split()


def has(host: LabHost, closure: str) -> bool:
    """Whether the host has all of the closure, and every byte of it as it should be."""
    valid = host.exec("nix-store", "--check-validity", closure, check=False).status == 0
    if valid:
        paths = host.exec("nix-store", "--query", "--requisites", closure).stdout.split()
        assert sorted(paths) == sorted(requisites(closure))
        host.exec("nix-store", "--verify-path", *paths)
    return valid
