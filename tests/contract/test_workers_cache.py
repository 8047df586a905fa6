"""Closures go to a real cache of workers, and come from there."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from fleet.errors import ConfigError
from fleet.inventory import parse
from fleet.library.crew.cache import fetcher, give
from fleet.library.tools import LocalNix, Tools
from fleet.machine.login import Logins
from fleet.model import Closure
from fleet.state import open_state
from tests.unit import builders

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")


def nix_store(*words: str) -> str:
    return subprocess.run(["nix-store", *words], check=True, capture_output=True, text=True).stdout.strip()


def tools(folder: Path, cache: str) -> Tools:
    inventory = parse(folder / "fleet.toml", f'[workers]\ncache = "{cache}"\n[hosts.a]\n')
    return Tools(
        inventory=inventory, logins=Logins(inventory.hosts), state=open_state(folder / "state"), here=LocalNix({})
    )


async def test_closure_that_is_gone_comes_from_the_cache(tmp_path: Path) -> None:
    file = tmp_path / "system"
    file.write_text(f"of {tmp_path}")
    closure = Closure(nix_store("--add", str(file)))
    part = builders.part("a", closure=closure, manifest="0" * 64)
    there = tools(tmp_path, f"file://{tmp_path}/cache")
    await give(there, builders.plan(("a",), parts=[part]))
    nix_store("--delete", closure)
    fetch = fetcher(there)
    assert fetch is not None
    await fetch(part)
    assert nix_store("--check-validity", closure) == ""
    nix_store("--delete", closure)


async def test_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    there = tools(tmp_path, f"file://{tmp_path}/file/cache")
    closure = Closure(nix_store("--add", str(tmp_path / "file")))
    with pytest.raises(ConfigError, match="the closures cannot be copied to file://"):
        await give(there, builders.plan(("a",), parts=[builders.part("a", closure=closure, manifest="0" * 64)]))
