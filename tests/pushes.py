"""What pushes are tried with: systems of which nothing runs, and links that are made worse."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab import Lab

SYSTEM = Path(__file__).with_name("data") / "system.nix"


def system(name: str, parts: str, *, bin_folder: Path) -> str:
    """The Nix expression of a system that is made of the parts, an expression of a list; `bin` of a lab builds it."""
    return f'import {SYSTEM} {{ name = "{name}"; bin = {bin_folder}; parts = {parts}; }}'


@contextlib.contextmanager
def relay(lab: Lab, name: str, *arguments: str) -> Iterator[int]:
    """The port of a link to the host that `fleet.lab.relay` makes worse, as its arguments say."""
    port = tomllib.loads(lab.folder.inventory.read_text())["hosts"][name]["port"]
    argv = [sys.executable, "-m", "fleet.lab.relay", "0", str(port), *arguments]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()
