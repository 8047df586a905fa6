"""Signatures that are made here reach the hosts, though this machine's store had been asked before."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import pytest

from fleet.machine.local import LocalMachine
from fleet.machine.pipe import LocalStreams
from fleet.steps.sign import read_key, sign
from fleet.store.supply import Supply
from tests.contract.test_store import nix_store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    argv = ["nix-store", "--generate-binary-cache-key", "home-1", str(tmp_path / "secret"), str(tmp_path / "public")]
    subprocess.run(argv, check=True)
    return tmp_path / "secret"


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A path of the store that nobody has signed."""
    (tmp_path / "file").write_text(str(tmp_path))
    return nix_store("--add", str(tmp_path / "file")).strip()


def test_signatures_are_sent_that_were_made_since_the_store_was_asked(tmp_path: Path, key: Path, path: str) -> None:
    async def signatures() -> list[bool]:
        async with Supply(LocalStreams()) as supply:
            before = await supply.infos([path])
            await sign(LocalMachine(), read_key(tmp_path / "fleet.toml", key), [path])
            await supply.renew()
            after = await supply.infos([path])
        return [any(one.startswith("home-1:") for one in info.signatures) for info in (*before, *after)]

    assert asyncio.run(signatures()) == [False, True]
