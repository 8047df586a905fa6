"""Do the work of one run, and end it with a result whatever happens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.deploy import result
from fleet.errors import BugError, FleetError, StoppedError
from fleet.events import RunFinished, RunInterrupted

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from fleet.deploy.journal import Journal
    from fleet.deploy.stop import Stop
    from fleet.model import Failure, HostName, HostResult, RunId


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended."""

    run: RunId
    exit_code: int
    """The exit code of the command line: docs/outcomes.md has the table."""
    error: Failure | None = None
    """What ended the run as a whole, if anything did."""
    hosts: tuple[HostResult, ...] = ()
    unrecorded: str = ""
    """Why this machine could not record the whole run. Empty if it could."""


async def run_to_end(
    journal: Journal, stop: Stop, hosts: Sequence[HostName], work: Coroutine[None, None, None]
) -> RunResult:
    """Do the work of a run, and return how the run ended. Hosts without a result are skipped.

    The first request to stop reports the interruption, and `work` ends early by itself; the second cancels `work`.
    Never raises, except when it is cancelled itself.
    """
    error: FleetError | None = None
    try:
        await until_insisted(journal, stop, work)
    except FleetError as caught:
        error = None if isinstance(caught, StoppedError) else caught
    except Exception as caught:  # a bug; scripts wait for the last event even then
        error = unexpected(caught)
    return finish(journal, stop, hosts, error)


async def until_insisted(journal: Journal, stop: Stop, work: Coroutine[None, None, None]) -> None:
    """Wait until `work` has ended, or cancel it at the second request to stop."""
    task = asyncio.ensure_future(work)

    def on_request() -> None:
        if stop.is_insisted:
            task.cancel()
        else:
            journal.emit(RunInterrupted())

    with stop.calls(on_request):
        if stop.is_insisted:
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise


def finish(journal: Journal, stop: Stop, hosts: Sequence[HostName], error: FleetError | None) -> RunResult:
    """End the run: give every remaining host a result, report the last event, and return the result of the run."""
    left = [name for name in hosts if name not in journal.results]
    if error is not None:
        journal.finish(*(result.skipped(name, "not begun") for name in left))
    elif stop.is_requested:
        journal.finish(*(result.skipped(name, "interrupted before it began") for name in left))
    results = tuple(journal.results[name] for name in hosts if name in journal.results)
    code = result.exit_code(results, error=error, interrupted=stop.is_requested)
    failure = error.failure() if error else None
    journal.emit(RunFinished(run=journal.record.id, exit_code=code, error=failure, hosts=results))
    return RunResult(run=journal.record.id, exit_code=code, error=failure, hosts=results)


def unexpected(error: Exception) -> FleetError:
    """Turn any exception into an error that can be reported: trouble with this machine's files, or a bug."""
    if isinstance(error, OSError) and error.filename is not None:
        hint = "is there space, and may you write there?"
        return FleetError(f"this machine: {error.filename}: {error.strerror}", hint=hint)
    return BugError.of(error)
