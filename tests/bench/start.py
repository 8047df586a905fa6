"""How long people wait for an answer that asks no host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.measure import Taken, median, run
from tests.bench.report import Row

if TYPE_CHECKING:
    from tests.bench.bench import Bench

RUNS = 15
"""More than other cases have: each takes a tenth of a second."""
BIN = Path(sys.executable).parent


def measure(bench: Bench) -> list[Row]:
    """`--help` and `--version`, beside the library that both are made with."""
    tools = {
        "fleet --help": [str(BIN / "fleet"), "--help"],
        "fleet --version": [str(BIN / "fleet"), "--version"],
        "import click": [sys.executable, "-c", "import click"],
    }
    taken: dict[str, list[Taken]] = {name: [] for name in tools}
    for number in range(RUNS + 1):
        for name, argv in tools.items():
            one = run([argv])
            taken[name] += [one] if number else []  # the first only warms up
    return [Row("start-up", name, median(all_of), RUNS, 0) for name, all_of in taken.items()]
