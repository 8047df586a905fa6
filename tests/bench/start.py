"""Medians and ratios, each against a named peer measured in the same run."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

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


def main() -> None:
    """Prints one row for each case."""
    peer = [sys.executable, "-c", "import click"]
    cases = {"fleet --help": [str(BIN / "fleet"), "--help"], "fleet --version": [str(BIN / "fleet"), "--version"]}
    base, *ours = median(peer, *cases.values())
    print(f"{'case':20} {'median':>9} {'peer':>9} {'ratio':>6}   peer: python -c 'import click', {RUNS} runs each")
    for name, taken in zip(cases, ours, strict=True):
        print(f"{name:20} {taken * 1000:6.0f} ms {base * 1000:6.0f} ms {taken / base:6.2f}")


if __name__ == "__main__":
    main()
