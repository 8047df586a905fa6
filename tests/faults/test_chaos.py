"""A short, seeded game of the chaos runner; `make chaos N=200` plays longer ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from fleet.lab import Lab
from tests.containers import nixos_switch
from tests.faults import chaos

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 3
SEED = 7


@pytest.mark.timeout(600)
def test_promise_holds_through_random_rounds(lab_image: str, tmp_path: Path) -> None:
    lab = Lab.find(tmp_path / "lab")
    try:
        nixos_switch.adopt(Lab.up(lab.folder.path, chaos.HOSTS))
        with ThreadPoolExecutor(len(chaos.HOSTS)) as pool:
            games = [
                pool.submit(chaos.host_rounds, lab, tmp_path, name, SEED, range(index, ROUNDS, len(chaos.HOSTS)))
                for index, name in enumerate(chaos.HOSTS)
            ]
            assert [game.result() for game in games] == [0] * len(chaos.HOSTS)
    finally:
        lab.down()
