"""From a failing verdict to the proven old system, as a distribution, with and without the closure's own switch."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from fleet.lab import Lab
from tests.containers.hostprogram import NEW, Subject

RUNS = 30
TIMED = "a=$(date +%s%N); {act}; b=$(date +%s%N); echo $(((b - a) / 1000000))"
"""Prints the milliseconds that it took, by the host's own clock: nothing of docker exec is in it."""
ABANDON = '"$1" word "$2" "abandon silent bench" >/dev/null; while [ -d /run/fleet/open ]; do sleep 0.005; done'
SWITCH = '"$1/bin/switch-to-configuration" test 2>/dev/null'


def measure(subject: Subject, runs: int) -> tuple[list[float], list[float]]:
    """Seconds from the word to the end of the transaction, and seconds of the old system's own switch by hand."""
    new = subject.closure(NEW)
    whole, own = [], []
    for _ in range(runs):
        run = subject.switched(new)
        whole.append(int(subject.sh(TIMED.format(act=ABANDON), subject.program, run)) / 1000)
        assert subject.stands_on == (subject.old,) * 3
        subject.sh(SWITCH, new)
        own.append(int(subject.sh(TIMED.format(act=SWITCH), subject.old)) / 1000)
    return whole, own


def main() -> None:
    """Prints one row for each."""
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as name:
        folder = Path(name)
        lab = Lab.find(folder / "lab")
        try:
            Lab.up(folder / "lab", ["subject"])
            whole, own = measure(Subject.on(lab, "subject", folder), RUNS)
        finally:
            lab.down()
    print(f"{'from verdict to old system':34} {'best':>7} {'median':>7} {'worst':>7}   {RUNS} runs")
    rest = [all_of_it - its for all_of_it, its in zip(whole, own, strict=True)]
    for label, taken in (("whole", whole), ("the old system's own switch", own), ("what fleet adds", rest)):
        print(f"{label:34} {min(taken):5.2f} s {statistics.median(taken):5.2f} s {max(taken):5.2f} s")
