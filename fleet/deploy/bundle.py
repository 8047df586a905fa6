"""The failure bundle: what a person needs to understand a failure, gathered while it can still be had."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from fleet.diff import diff_lines, read_diff
from fleet.errors import FleetError, HostError
from fleet.machine import Command

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fleet.checks import Answer
    from fleet.deploy.request import Run
    from fleet.machine import Machine
    from fleet.steps.plan import HostPlan

PATIENCE = 20.0
"""Seconds for the whole bundle. The outcome is known by then; nobody should wait long for its story."""

SCRIPTS = {
    "switch.txt": 'journalctl --no-pager --output=short-iso-precise -u "fleet-switch-$1" -u "fleet-keep-$1"',
    "units.txt": (
        "systemctl list-units --plain --no-legend --state=failed,auto-restart | while read -r unit _; do"
        ' systemctl --no-pager --full status --lines=30 "$unit" </dev/null; done'
    ),
    "journal.txt": 'journalctl --no-pager --output=short-iso-precise --since="@$2" --priority=warning --lines=500',
    "df.txt": "df -h; echo; df -i",
}
"""File of the bundle -> what prints it on the host, given the run and when it began there."""


async def write_bundle(
    run: Run, machine: Machine, plan: HostPlan, *, since: int, said: Iterable[str], asked: Iterable[Answer]
) -> Path | None:
    """The folder of this host's bundle in the run's folder, with what could be had; None where nothing could.

    `said` is what the switch wrote, `asked` the last answers of the checks. Never raises: the outcome is known, and a
    bundle that cannot be written must not change it.
    """
    folder = run.folder / plan.host.name
    # Whatever is raised, by a disk, by a host or by a bug here: it would be told instead of the outcome.
    with contextlib.suppress(Exception):
        folder.mkdir(exist_ok=True, mode=0o700)
        _write(folder / "said.txt", "".join(f"{line}\n" for line in said))
        _write(folder / "checks.json", json.dumps([asdict(answer) for answer in asked], indent=1))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(_from_host(run, machine, folder, since), _difference(run, machine, plan, folder))
    return folder if folder.is_dir() else None


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="replace")


async def _from_host(run: Run, machine: Machine, folder: Path, since: int) -> None:
    for name, script in SCRIPTS.items():
        with contextlib.suppress(HostError):
            argv = ("sh", "-c", f"{script} 2>&1", "sh", run.id, str(since))
            output = await machine.run(Command(argv=argv, timeout=PATIENCE))
            _write(folder / name, output.stdout)


async def _difference(run: Run, machine: Machine, plan: HostPlan, folder: Path) -> None:
    """What the new system would have changed, where it is in the local store."""
    with contextlib.suppress(FleetError):
        diff = await read_diff(machine, plan.facts.running, run.here, plan.closure)
        _write(folder / "diff.txt", "".join(f"{line}\n" for line in diff_lines(plan.host.name, diff)))
