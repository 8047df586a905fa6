"""Deployments to thousands of simulated hosts: with nothing to do, and with a switch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fleet.inventory.drivers import Driver
from fleet.steps.system import NEEDED
from tests.bench.closures import ask
from tests.bench.idle import Idle, make_key
from tests.bench.measure import Taken, run
from tests.bench.report import Row
from tests.bench.simulate import simulated

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.bench import Bench

TIMES = (1, 10)
"""How many times as many hosts as `--simulated` says."""
RUNNING = f"/nix/store/{'1' * 32}-nixos-system-running"


def measure(bench: Bench) -> list[Row]:
    """One run of each: ten times as many hosts take ten times as long, and no more of anything for each."""
    rows = []
    new = system(bench.folder / "nixos-system-new")
    for times in TIMES:
        count = times * bench.simulated
        folder = bench.folder / f"scale-{count}"
        key = make_key(folder)
        for case, stands in (("nothing to do", new), ("switch, settle 5 s", RUNNING)):
            with simulated(count, stands, key, new=new) as hosts:
                rollout = {"at_once": 128}
                idle = Idle(folder, {f"host-{number}": host for number, host in enumerate(hosts)}, key, rollout)
                taken = run([idle.fleet("--closure", new)], idle.environment)
            each = f"{1000 * taken.cpu / count:.1f} ms of CPU a host, {taken.memory >> 20} MiB"
            print(f"  {count} hosts, {case}: {taken.wall:.1f} s, {each}", file=sys.stderr, flush=True)
            rows.append(Row(f"{count} hosts, {case}", "fleet", Taken(taken.wall, taken.cpu, taken.memory), 1, count))
    return rows


def system(folder: Path) -> str:
    """What passes for a system that can be switched to, in the local store."""
    (folder / "bin").mkdir(parents=True)
    for (name,) in NEEDED[Driver.NIXOS]:
        (folder / name).write_text("")
    (path,) = ask("nix-store", "--add", str(folder))
    return path
