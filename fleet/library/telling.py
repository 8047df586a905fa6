"""Tell those whom fleet.toml names how a run has ended, and write the metrics. Neither changes how it has ended."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from fleet.library import metrics
from fleet.library.recent import RecentRuns

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from fleet.deploy.journal import Journal
    from fleet.deploy.run import RunResult
    from fleet.deploy.stop import Stop
    from fleet.library.runs import OnEnvelope
    from fleet.library.tools import Tools
    from fleet.model import Failure, HostResult


class Telling:
    """What a fleet can be asked to tell, beside what its runs tell."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def recent_runs(self) -> RecentRuns:
        """Return what keeps up with the newest runs."""
        return RecentRuns(self._tools.state)

    async def write_metrics(self) -> str:
        """Replace the file of metrics by what this machine knows now, if fleet.toml names one; no host is asked.

        Return why that failed; nothing if it did not.
        """
        return await metrics.write(self._tools)

    async def try_notify(self) -> list[tuple[str, str]]:
        """Send a trial message to everybody whom fleet.toml names, whatever they want to be told of.

        Return what people call each, and why it was not told; nothing if it was.
        """
        from fleet.notify import trouble
        from fleet.notify.message import trial

        notify = self._tools.inventory.notify
        message = trial(self._tools.inventory.name, self._tools.by, self._tools.origin, time.time())
        troubles = await asyncio.gather(*(trouble(message, each) for each in notify))
        return list(zip((each.label for each in notify), troubles, strict=True))


def telling(
    tools: Tools,
    journal: Journal,
    stop: Stop,
    work: Callable[[OnEnvelope], Coroutine[None, None, RunResult]],
    *,
    intent: str = "",
) -> Callable[[OnEnvelope], Coroutine[None, None, RunResult]]:
    """Return work that does the same, and tells how it has ended when all its connections are closed."""

    async def work_and_tell(on_envelope: OnEnvelope) -> RunResult:
        done = await work(on_envelope)
        await tell(tools, journal, stop, hosts=done.hosts, error=done.error, intent=intent)
        return done

    return work_and_tell


async def tell(
    tools: Tools,
    journal: Journal,
    stop: Stop,
    *,
    hosts: Sequence[HostResult] = (),
    error: Failure | None = None,
    intent: str = "",
) -> None:
    """Tell how the run has ended, whose last event is in the journal. Never raises, except when it is cancelled.

    The journal gets a line for each who could not be told. Nobody waits longer than the longest timeout of fleet.toml,
    nor after a further request to stop.
    """
    try:
        await _tell(tools, journal, stop, hosts, error, intent)
    except Exception as caught:  # a bug here is no reason for a run to end otherwise
        journal.untold.append(f"somebody may not have been told: {type(caught).__name__}: this is a bug in fleet")


async def _tell(
    tools: Tools, journal: Journal, stop: Stop, hosts: Sequence[HostResult], error: Failure | None, intent: str
) -> None:
    if trouble := await metrics.write(tools):
        journal.untold.append(trouble)
    if not tools.inventory.notify:
        return
    from fleet.notify import send_to_all  # most fleets tell nobody
    from fleet.notify.message import Ended, message_about

    record = journal.record
    ended = Ended(
        fleet=tools.inventory.name,
        run=journal.run,
        command=record.verb,
        exit_code=record.exit_code or 0,
        by=tools.by,
        origin=tools.origin,
        intent=intent,
        started=record.started,
        finished=record.finished or time.time(),
        error=error,
        hosts=hosts,
    )
    sending = asyncio.ensure_future(send_to_all(message_about(ended), tools.inventory.notify))
    try:
        with stop.calls(sending.cancel):
            await asyncio.wait([sending])
    finally:
        sending.cancel()  # whoever is cancelled here leaves nobody who sends
    journal.untold += ["nobody was told: interrupted"] if sending.cancelled() else sending.result()
