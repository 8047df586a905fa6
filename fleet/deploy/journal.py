"""Collect what happens in one run: number its events, keep the results of its hosts, and pass every event on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from fleet.errors import StateError
from fleet.events import Envelopes, HostFinished
from fleet.state import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fleet.events import Envelope, Event
    from fleet.model import HostName, HostResult, RunId
    from fleet.state import RunRecord


PATIENCE = 1.0
"""Seconds to wait for the disk where nothing depends on it."""


class Recorder(Protocol):
    """Writes a run's events to disk."""

    def record(self, envelope: Envelope) -> None:
        """Take an event, to be written soon. Never blocks, never raises."""
        ...

    async def flush(self) -> None:
        """Wait until every event taken so far is on disk. Raise `StateError` if one cannot be written."""
        ...


class Journal:
    """The events of one run in order, and the results of its hosts. Each process has one journal for each run."""

    def __init__(self, record: RunRecord, by: str) -> None:
        """Continue the events of a run. `record` is what is known of it: no more than its id if the run begins now."""
        self.record = record
        """What the events of the run amount to so far."""
        self._envelopes = Envelopes(record.id, by, after=record.last_seq)
        self._listener: Callable[[Envelope], None] | None = None
        self._results: dict[HostName, HostResult] = {}
        self._early: list[Envelope] | None = []
        """Events from before `record_in`, for the recorder to write first; None afterwards."""
        self._recorder: Recorder | None = None
        self.contacted: set[HostName] = set()
        """The hosts that are being contacted and have not answered yet. Not an event: it changes all the time."""
        self._must_record = True
        self._is_slow = False
        """Whether the disk has kept us waiting where nothing depends on it."""
        self.untold: list[str] = []
        """Who could not be told how the run has ended, and why. That is known only after its last event."""

    @property
    def run(self) -> RunId:
        """The id of the run."""
        return self.record.id

    def listen(self, listener: Callable[[Envelope], None]) -> None:
        """Send every event from now on to `listener`, which takes the place of the listener before it."""
        self._listener = listener

    @property
    def results(self) -> Mapping[HostName, HostResult]:
        """The results of the hosts that have ended."""
        return self._results

    @property
    def early_events(self) -> tuple[Event, ...]:
        """The events from before the run was recorded."""
        return tuple(envelope.event for envelope in self._early or ())

    @property
    def is_recorded(self) -> bool:
        """Whether events go to a recorder."""
        return self._recorder is not None

    def record_in(self, recorder: Recorder, *, must_record: bool) -> None:
        """Send every event to the recorder, beginning with those from before this call.

        With `must_record`, `flush` raises when events cannot be recorded, so that nothing begins without a record.
        """
        for envelope in self._early or ():
            recorder.record(envelope)
        self._early, self._recorder, self._must_record = None, recorder, must_record

    def need_not_record(self) -> None:
        """Go on from now on where events cannot be recorded, as on the way back: for break-glass."""
        self._must_record = False

    def emit(self, event: Event) -> None:
        """Number an event and pass it on: to the recorder first, then to the listener."""
        envelope = self._envelopes.wrap(event)
        self.record = fold(self.record, envelope)
        if self._recorder is not None:
            self._recorder.record(envelope)
        elif self._early is not None:
            self._early.append(envelope)
        if self._listener is not None:
            self._listener(envelope)

    def adopt(self, results: Iterable[HostResult]) -> None:
        """Keep results that another process of the same run has stored and told of."""
        self._results.update((result.host, result) for result in results)

    def finish(self, *results: HostResult) -> None:
        """Keep the result of each host, then report it. Nothing else does either."""
        for result in results:
            self._results[result.host] = result
            self.emit(HostFinished(host=result.host, result=result))

    async def flush(self) -> None:
        """Wait until all events so far are on disk. Raise `StateError` if they cannot be and must be.

        Where they need not be, as on the way back, a database that keeps us waiting is waited for once, and not long.
        """
        if self._recorder is None or self._is_slow:
            return
        if self._must_record:
            await self._recorder.flush()
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self._recorder.flush()
        except TimeoutError:
            self._is_slow = True
        except StateError:
            pass

    def has_begun(self, host: HostName) -> bool:
        """Whether the host may have been asked to begin its switch."""
        return host in self.record.hosts and self.record.hosts[host].begun

    def has_switched(self, host: HostName) -> bool:
        """Whether the host has reported the end of its activation."""
        return host in self.record.hosts and self.record.hosts[host].switched
