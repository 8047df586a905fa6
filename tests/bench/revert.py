"""From a failing verdict, and from a crash loop that nobody declared, to the proven old system, as distributions."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.bench.hosts import Hosts
from tests.bench.measure import Taken
from tests.bench.report import Row
from tests.bench.start import BIN
from tests.containers.hostprogram import NEW, Subject
from tests.faults.units import LOOP

if TYPE_CHECKING:
    from tests.bench.bench import Bench

CASE = "verdict to old system"
RUNS = 30
LOOP_CASE = "crash loop (RestartSec=300ms) to old system"
LOOPS = 10
TIMED = "a=$(date +%s%N); {act}; b=$(date +%s%N); echo $(((b - a) / 1000000))"
"""Prints the milliseconds that it took, by the host's own clock: nothing of docker exec is in it."""
ABANDON = '"$1" word "$2" "abandon silent bench" >/dev/null; while [ -d /run/fleet/open ]; do sleep 0.005; done'
ENDS = "stat -c %.3Y /run/fleet/last/status /run/fleet/last/ended"
"""Prints when activation ended, and the transaction: seconds since 1970, by the host's own clock."""
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


def crash_loops(subject: Subject, hosts: Hosts, runs: int) -> list[float]:
    """Seconds from the end of activation to the end of the transaction, where a service of NEW dies again and again."""
    new = subject.closure(NEW + LOOP)
    argv = [str(BIN / "fleet"), "deploy", *hosts.names, "--file", hosts.inventory, "--closure", new, "--yes"]
    seconds = []
    for _ in range(runs):
        done = subprocess.run(
            [*argv, "--retry-quarantined"], env={**os.environ, **hosts.environment}, capture_output=True, text=True
        )
        if done.returncode != 1 or "loop.service was restarted" not in done.stdout + done.stderr:
            raise SystemExit(f"the crash loop was not found:\n{done.stdout}\n{done.stderr}")
        assert subject.stands_on == (subject.old,) * 3
        activated, ended = map(float, subject.sh(ENDS).split())
        seconds.append(ended - activated)
    return seconds


def measure(bench: Bench) -> list[Row]:
    """The whole way back beside the old system's own switch, which is most of it; then the crash loop."""
    folder = bench.folder / "revert"
    folder.mkdir()
    lab = bench.lab("subject")
    subject = Subject.on(lab, "subject", folder)
    whole, own = distributions(subject, RUNS)
    rest = [all_of_it - its for all_of_it, its in zip(whole, own, strict=True)]
    for label, taken in (("whole", whole), ("the old system's own switch", own), ("what fleet adds", rest)):
        _tell(f"{CASE}: {label}", taken)
    loops = crash_loops(subject, Hosts.of(lab, ["subject"], folder / "fleet"), LOOPS)
    _tell(LOOP_CASE, loops)
    rows = [(CASE, "fleet", whole), (CASE, "switch-to-configuration", own), (LOOP_CASE, "fleet", loops)]
    return [Row(case, tool, Taken(statistics.median(taken)), len(taken), 1) for case, tool, taken in rows]


def _tell(what: str, taken: list[float]) -> None:
    spread = f"best {min(taken):.2f} s, median {statistics.median(taken):.2f} s, worst {max(taken):.2f} s"
    print(f"  {what}: {spread}", file=sys.stderr)
