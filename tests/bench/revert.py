"""From a failing verdict to the proven old system, as a distribution, with and without the closure's own switch."""

from __future__ import annotations

import statistics
import sys
from typing import TYPE_CHECKING

from tests.bench.measure import Taken
from tests.bench.report import Row
from tests.containers.hostprogram import NEW, Subject

if TYPE_CHECKING:
    from tests.bench.bench import Bench

CASE = "verdict to old system"
RUNS = 30
TIMED = "a=$(date +%s%N); {act}; b=$(date +%s%N); echo $(((b - a) / 1000000))"
"""Prints the milliseconds that it took, by the host's own clock: nothing of docker exec is in it."""
ABANDON = '"$1" word "$2" "abandon silent bench" >/dev/null; while [ -d /run/fleet/open ]; do sleep 0.005; done'
SWITCH = '"$1/bin/switch-to-configuration" test 2>/dev/null'


def distributions(subject: Subject, runs: int) -> tuple[list[float], list[float]]:
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


def measure(bench: Bench) -> list[Row]:
    """The whole way back beside the old system's own switch, which is most of it."""
    folder = bench.folder / "revert"
    folder.mkdir()
    whole, own = distributions(Subject.on(bench.lab("subject"), "subject", folder), RUNS)
    rest = [all_of_it - its for all_of_it, its in zip(whole, own, strict=True)]
    for label, taken in (("whole", whole), ("the old system's own switch", own), ("what fleet adds", rest)):
        spread = f"best {min(taken):.2f} s, median {statistics.median(taken):.2f} s, worst {max(taken):.2f} s"
        print(f"  {CASE}: {label}: {spread}", file=sys.stderr)
    tools = {"fleet": whole, "switch-to-configuration": own}
    return [Row(CASE, tool, Taken(statistics.median(seconds)), RUNS, 1) for tool, seconds in tools.items()]
