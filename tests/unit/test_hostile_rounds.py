"""A few rounds with a host that says anything. `make fuzz` plays many; what it finds becomes a test of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.rounds import ROUNDS

FEW = {"parsing": 12, "checking": 12, "pushing": 20, "running": 4}


@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for kind, many in FEW.items() for seed in range(many)])
def test_hostile_host_fails_alone_and_in_time(kind: str, seed: int) -> None:
    ROUNDS[kind](seed)


def test_controller_stays_small_whatever_one_host_of_ten_says() -> None:
    """In a process of its own, which looks at its memory in the end."""
    command = [sys.executable, "-m", "tests.hostile", "--kind", "running", "--rounds", "6", "--seed", "7"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
