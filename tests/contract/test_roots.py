"""What a plan that is kept needs of the local store stays there: the real Nix and its garbage collector."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import TYPE_CHECKING

from fleet import nix
from fleet.machine.local import LocalMachine
from tests.contract.test_store import nix_store

if TYPE_CHECKING:
    from pathlib import Path

DERIVATION = 'derivation {{ name = "kept-by-a-plan"; system = "riscv64-linux"; builder = "/no"; for = "{}"; }}'


def test_derivation_is_kept_that_nobody_here_can_build(tmp_path: Path) -> None:
    argv = ["nix-instantiate", "--add-root", str(tmp_path / "evaluated"), "--indirect"]
    argv += ["--expr", DERIVATION.format(tmp_path)]
    subprocess.run(argv, check=True, capture_output=True)
    derivation = str((tmp_path / "evaluated").resolve())
    here = LocalMachine()
    referring = json.loads(asyncio.run(here.run(nix.refer_to([derivation]))).stdout)
    rooted = asyncio.run(here.run(nix.realise([referring], root=tmp_path / "closure")))
    assert (rooted.status, sorted(nix_store("--query", "--roots", derivation).splitlines())) == (
        0, [f"{tmp_path / 'closure'} -> {referring}", f"{tmp_path / 'evaluated'} -> {derivation}"],
    )  # fmt: skip
