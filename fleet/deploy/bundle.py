"""Write the failure bundle: what a person needs to understand a failure, gathered while the host still has it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from fleet.diff import diff_lines, read_diff
from fleet.errors import FleetError, HostError
from fleet.machine import Command
from fleet.scripts import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fleet.deploy.context import Context
    from fleet.machine import Link
    from fleet.model import CheckAnswer, RunId
    from fleet.steps.job import Job

LONGEST = 1 << 20
"""Bytes of each file from the host: the end of what is longer."""
PATIENCE = 20.0
"""Seconds for the whole bundle. The outcome is known by then, and nobody should wait long for the details."""

FROM_HOST = ("switch", "units", "journal", "df")
"""Scripts that run on the host and print one file of the bundle each. Their arguments are the run, and when it began
there in seconds since 1970. Script NAME gives NAME.txt."""


async def write_bundle(
    context: Context, job: Job, *, since: int, said: Iterable[str], answers: Iterable[CheckAnswer]
) -> Path | None:
    """Gather the failure bundle of one host, and return its folder; None if not even the folder could be made.

    It is in the run's folder. Whatever cannot be gathered is left out. `said` is the output of the switch, `answers`
    has the last answer of each check. Never raises: the outcome is known, and a bundle that cannot be written must not
    change it.
    """
    folder = context.folder / "hosts" / job.host.name
    link = context.links[job.host.name]
    # Whatever fails here, a disk, a host or fleet itself, the error must not take the place of the outcome.
    with contextlib.suppress(Exception):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(folder / "said.txt", "".join(f"{line}\n" for line in said))
        _write(folder / "checks.json", json.dumps([asdict(answer) for answer in answers], indent=1))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(
                    _write_host_files(context.run, link, folder, since), _write_diff(context, job, folder)
                )
    return folder if folder.is_dir() else None


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="replace")


async def _write_host_files(run: RunId, link: Link, folder: Path, since: int) -> None:
    """Write what each script of `FROM_HOST` prints to a file of its own. A script that fails gives no file."""
    for name in FROM_HOST:
        with contextlib.suppress(HostError):
            argv = ("sh", "-c", one_line("fleet.deploy", name), "sh", run, str(since))
            verb = ("bundle", name, run, str(since))
            output = await link.run(Command(argv=argv, timeout=PATIENCE, keep=LONGEST, verb=verb))
            _write(folder / f"{name}.txt", output.stdout)


async def _write_diff(context: Context, job: Job, folder: Path) -> None:
    """Write what the new system would have changed, if that can be read from the local store."""
    with contextlib.suppress(FleetError):
        link = context.links[job.host.name]
        diff = await read_diff(link, job.part.expected, context.here, job.closure)
        _write(folder / "diff.txt", "".join(f"{line}\n" for line in diff_lines(job.host.name, diff)))
