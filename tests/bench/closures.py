"""Closures to push: so many paths, so many bytes that no compression makes smaller."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.pushes import system

if TYPE_CHECKING:
    from pathlib import Path

PARTS = """
let
  b = "${{builtins.path {{ path = {bin}; name = "bb"; }}}}/busybox";
  part = n: derivation {{
    name = "part-${{toString n}}-1.0";
    system = builtins.currentSystem;
    builder = b;
    args = [ "sh" "-ec" "${{b}} mkdir $out; ${{b}} cp $data $out/data; echo $behind > $out/behind" ];
    data = builtins.path {{ path = {data} + "/${{toString (fresh n)}}"; name = "data"; }};
    behind = map (builtins.elemAt parts) (builtins.filter (other: other >= 0) [ (n - 1) (n - 7) ]);
  }};
  fresh = n: if n >= {count} - {new} then n + {count} else n;
  parts = builtins.genList part {count};
in parts
"""


@dataclass(frozen=True)
class Closure:
    """A closure in the local store."""

    top: str
    paths: tuple[str, ...]
    nar_bytes: int


def build(folder: Path, bin_folder: Path, *, count: int, size: int, new: int = 0) -> Closure:
    """A closure of `count` paths of `size` bytes, the last `new` of them unlike those of one with the same folder.

    Nothing is made twice: the same folder gives the same closure.
    """
    return made_of(parts(folder, bin_folder, count=count, size=size, new=new), str(new), bin_folder)


def parts(folder: Path, bin_folder: Path, *, count: int, size: int, new: int = 0) -> str:
    """What such a closure is made of: a Nix expression of a list."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in [*range(count), *range(2 * count - new, 2 * count)]:
        file = folder / str(number)
        if not file.exists():
            file.write_bytes(os.urandom(size))
    return PARTS.format(bin=bin_folder, data=folder, count=count, new=new)


def made_of(parts: str, name: str, bin_folder: Path) -> Closure:
    """The closure of a system that is made of the parts, a Nix expression of a list, and of which nothing runs."""
    return evaluated(system(f"bench-{name}", f"({parts})", bin_folder=bin_folder))


def evaluated(expression: str) -> Closure:
    """The closure that the Nix expression is."""
    (top,) = ask("nix-build", "--no-out-link", "--option", "sandbox", "false", "-E", expression)
    return known(top)


def known(top: str) -> Closure:
    """The closure of a path in the local store."""
    paths = tuple(ask("nix-store", "--query", "--requisites", top))
    return Closure(top, paths, sum(map(int, ask("nix-store", "--query", "--size", *paths))))


def ask(*argv: str) -> list[str]:
    """The words that the command prints. Raises `SystemExit` when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{argv[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout.split()
