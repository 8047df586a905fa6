"""The name of a closure's contents: what a host makes of its own store, with Nix and coreutils alone."""

from __future__ import annotations

import asyncio
import subprocess

from fleet.machine.local import LocalMachine
from fleet.machine.pipe import LocalStreams
from fleet.model import Closure
from fleet.plans.manifest import base32
from fleet.steps.load import Contents, contents_of
from fleet.store.supply import Supply
from tests.contract.test_store import closure, nix_store

__all__ = ["closure"]  # the fixture
ON_A_HOST = """
nix-store --query --requisites "$1" | while read -r path; do
    printf '%s %s\\n' "$path" "$(nix-store --query --hash "$path")"
done | LC_ALL=C sort | sha256sum
"""


async def made_of(closure: str) -> Contents:
    """What the closure is made of."""
    async with Supply(LocalStreams()) as supply:
        return await contents_of(LocalMachine(), supply, Closure(closure))


def test_manifest_is_what_a_host_makes_of_its_store(closure: str) -> None:
    found = asyncio.run(made_of(closure))
    said = subprocess.run(["sh", "-c", ON_A_HOST, "sh", closure], check=True, capture_output=True, text=True).stdout
    assert (len(found.sizes), found.manifest) == (11, said.split()[0])


def test_hashes_are_written_as_nix_writes_them(closure: str) -> None:
    said = nix_store("--query", "--hash", closure).strip()
    argv = ["nix-hash", "--type", "sha256", "--to-base16", said]
    plain = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    assert f"sha256:{base32(bytes.fromhex(plain.removeprefix('sha256:')))}" == said
