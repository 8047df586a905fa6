"""Deployments by four workers, of which one is killed and one sleeps on the way, beside one process without workers."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from tests.bench.measure import Taken, run
from tests.bench.report import Row
from tests.bench.tree import Watch
from tests.postgres import Server
from tests.waiting import until
from tests.workers.crew import HASTY, Crew, crew

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from tests.bench.bench import Bench

TIMES = 10
"""How many times as many hosts as `--simulated` says."""
WORKERS = 4
PLACES = 32
LASTS = 10.0
"""Seconds after which a worker counts as lost here. Usually it is half a minute, which says nothing about the rest."""


def measure(bench: Bench) -> list[Row]:
    """One run of each, over one server. Each host is switched once, or there is no row."""
    count = TIMES * bench.simulated
    case = f"{count} hosts, switch, 2 cores"
    rows = []
    with Server("fsync=on", "shared_buffers=128MB") as server:
        queue = [sys.executable, "-m", "tests.bench.bare_queue", server.url, *map(str, (count, WORKERS, 50))]
        rows.append(_row(case, f"procrastinate alone, {WORKERS} processes", run([queue]), count))
        for name, by_workers in (("fleet, no workers", False), (f"fleet, {WORKERS} workers", True)):
            server.clear()
            folder = bench.folder / f"workers-{by_workers}"
            folder.mkdir()
            with crew(folder, server.url, count, at_once=WORKERS * PLACES) as fleet:
                fleet.settle("5s")
                rows += _by_workers(case, name, fleet) if by_workers else [_alone(case, name, fleet)]
                switched = fleet.switched()
                if switched != sorted(fleet.hosts):
                    twice = len(switched) - len(set(switched))
                    raise SystemExit(f"{name}: {len(set(switched))} of {count} switched, {twice} of them twice")
    return rows


def _alone(case: str, name: str, fleet: Crew) -> Row:
    return _row(case, name, _run(fleet), len(fleet.hosts))


def _by_workers(case: str, name: str, fleet: Crew) -> list[Row]:
    workers = [fleet.worker("--at-once", str(PLACES), lasts=LASTS) for _ in range(WORKERS)]
    trouble = threading.Thread(target=_trouble, args=(fleet, workers), daemon=True)
    before = sum(map(_cpu, workers))
    trouble.start()
    with Watch(worker.pid for worker in workers) as watch:
        taken = _run(fleet, "--workers")
    trouble.join(60)
    cpu = sum(map(_cpu, workers)) - before
    count = len(fleet.hosts)
    return [
        _row(case, name, Taken(taken.wall, taken.cpu + cpu, taken.memory), count),
        _row(case, "fleet, the workers together", Taken(taken.wall, cpu, watch.peak), count),
    ]


def _run(fleet: Crew, *words: str) -> Taken:
    """A deployment to all of them. Where one has not got its system, `SystemExit` has why."""
    said = fleet.folder / "said"
    script = 'out=$1; shift; exec "$@" >"$out"'
    try:
        return run([["sh", "-c", script, "sh", str(said), *_deployment(fleet), *words]], fleet.environment())
    except SystemExit as error:
        ends = json.loads(said.read_text().splitlines()[-1])
        bad = [
            f"{host['name']}: {host['outcome']}: {host['error']} {host['notes']}"
            for host in ends["hosts"]
            if host["error"]
        ]
        raise SystemExit("\n".join([str(error)[-500:], str(ends["error"]), *bad[:5]])) from None


def _trouble(fleet: Crew, workers: Sequence[subprocess.Popen[str]]) -> None:
    """One worker is killed after a third, and one stopped, and let go after two thirds."""
    killed, stopped, *_ = workers
    count = len(fleet.hosts)
    until(lambda: _lines(fleet) >= count // 3, within=3600)
    killed.kill()
    stopped.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    until(lambda: _lines(fleet) >= 2 * count // 3 and time.monotonic() - began > 2 * LASTS, within=3600)
    stopped.send_signal(signal.SIGCONT)


def _lines(fleet: Crew) -> int:
    return fleet.log.read_bytes().count(b"\n") if fleet.log.exists() else 0


def _deployment(fleet: Crew) -> list[str]:
    words = ["deploy", "--all", "--yes", "--json", "--closure", fleet.new, "-f", str(fleet.file)]
    return [sys.executable, "-c", HASTY.format(lasts=LASTS) + fleet.program, *words]


def _cpu(process: subprocess.Popen[str]) -> float:
    """Seconds of processors that a process has taken, with what it has waited for; none when it is gone."""
    import os
    from pathlib import Path

    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _row(case: str, tool: str, taken: Taken, count: int) -> Row:
    print(
        f"  {tool}: {taken.wall:.1f} s, {taken.cpu:.1f} s of CPU, {taken.memory >> 20} MiB", file=sys.stderr, flush=True
    )
    return Row(case, tool, taken, 1, count)
