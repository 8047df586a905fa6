"""Record what one worker sees in one run, together with what the others see."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fleet.events import HostFinished
from fleet.state.recorder import GroupCommit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.deploy.journal import Journal
    from fleet.errors import StateError
    from fleet.events import Envelope
    from fleet.model import HostName, RunId
    from fleet.state import Entered
    from fleet.state.crew import Crew

PATIENCE = 3600.0
"""Seconds for which hosts that have not begun wait for a database that is away. Nothing happens to them meanwhile."""


class LostShareError(Exception):
    """This worker was not heard of for so long that another one has taken the host.

    It is none of `FleetError`: whoever hears of it does nothing more at the host, and gives nothing up there.
    """


class Saying:
    """Writes the events of one run that this worker sees, in one transaction for all that have piled up."""

    def __init__(self, crew: Crew, run: RunId, worker: str, entered: Entered) -> None:
        self._crew = crew
        self._run = run
        self.worker = worker
        self._entered = entered
        self._counted: set[HostName] = set()
        self._lost: set[HostName] = set()
        self._commits = GroupCommit(self._write, patience=lambda _: PATIENCE)

    def of(self, journal: Journal, host: HostName) -> ShareRecorder:
        """Return what records the events of one host that this worker has taken."""
        self._lost.discard(host)
        return ShareRecorder(self, journal, host)

    def record(self, envelope: Envelope, *, is_bad: bool) -> None:
        """Take an event, to be written soon. `is_bad` says that it is a bad end of a host that had begun."""
        if is_bad and isinstance(envelope.event, HostFinished):
            self._counted.add(envelope.event.host)
        self._commits.record(envelope)

    async def flush(self, host: HostName) -> None:
        """Wait until every event is written. Raise `LostShareError` if the host is not this worker's any more."""
        await self._commits.flush()
        if host in self._lost:
            raise LostShareError(host)

    @property
    def lost(self) -> StateError | None:
        """Why an event is not written, if one is not now."""
        return self._commits.lost

    def close(self) -> None:
        """Wait until every event is written or lost."""
        self._commits.close()

    def _write(self, envelopes: Sequence[Envelope], *, begins: bool) -> None:  # noqa: ARG002 - who handed it over began
        events = [envelope.event for envelope in envelopes]
        with self._crew.hand(self._run, by=envelopes[0].by, entered=self._entered) as hand:
            if hand is not None:
                self._lost |= hand.say(events, self.worker, self._counted)
            else:
                self._lost |= {host for event in events if (host := getattr(event, "host", None)) is not None}


class ShareRecorder:
    """See `fleet.deploy.journal.Recorder`: the events of one host, whatever others tell of others."""

    def __init__(self, saying: Saying, journal: Journal, host: HostName) -> None:
        self._saying = saying
        self._journal = journal
        self._host = host

    def record(self, envelope: Envelope) -> None:
        """See `Recorder.record`."""
        is_bad = False
        if isinstance(envelope.event, HostFinished):
            ended = envelope.event.result
            known = self._journal.record.hosts.get(self._host)
            has_begun = known is not None and (known.pushed or known.begun)
            is_bad = has_begun and ended.counts_against_run
            if ended.failure is not None:  # the trouble may be that of the worker's machine
                ended = dataclasses.replace(ended, notes=(*ended.notes, f"seen by worker {self._saying.worker}"))
                envelope = dataclasses.replace(envelope, event=HostFinished(host=self._host, result=ended))
        self._saying.record(envelope, is_bad=is_bad)

    async def flush(self) -> None:
        """See `Recorder.flush`."""
        await self._saying.flush(self._host)
