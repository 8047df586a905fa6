"""How long people wait for an answer that asks no host."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.measure import Taken
from tests.bench.report import Row

if TYPE_CHECKING:
    from tests.bench.bench import Bench

RUNS = 15
BIN = Path(sys.executable).parent


def median(*pairs: list[str]) -> list[float]:
    """The median seconds of each command, run in turn so that a drifting machine hits all alike."""
    seconds: list[list[float]] = [[] for _ in pairs]
    for run in range(RUNS + 1):
        for taken, argv in zip(seconds, pairs, strict=True):
            started = time.perf_counter()
            subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
            if run:  # the first of each only warms up
                taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]


def measure(bench: Bench) -> list[Row]:
    """`--help` and `--version`, beside the library that both are made with."""
    peer = [sys.executable, "-c", "import click"]
    cases = {"fleet --help": [str(BIN / "fleet"), "--help"], "fleet --version": [str(BIN / "fleet"), "--version"]}
    base, *ours = median(peer, *cases.values())
    rows = [Row("start-up", name, Taken(wall), RUNS, 0) for name, wall in zip(cases, ours, strict=True)]
    return [*rows, Row("start-up", "import click", Taken(base), RUNS, 0)]
