"""Record the events of a run: in the state, and as lines of JSON in the run's folder."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from fleet.events import RecordingLost, RecordingResumed
from fleet.output.jsonl import JsonLines
from fleet.state import EVENTS
from fleet.state.threads import in_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import TextIO

    from fleet.deploy.journal import Journal
    from fleet.events import Envelope
    from fleet.state import Entered, Recorder, State

INTERVAL = 1.0
"""Seconds between two looks at whether everything is recorded."""


class Record:
    """Passes every event to the state, and to a file of JSON lines.

    Nobody waits for the file. The state reads it only where its database does not know the run.
    """

    def __init__(self, recorder: Recorder, file: TextIO | None) -> None:
        self._recorder = recorder
        self._lines = JsonLines(file) if file is not None else None

    def record(self, envelope: Envelope) -> None:
        """See `Recorder.record`."""
        self._recorder.record(envelope)
        if self._lines is not None:
            self._lines(envelope)

    async def flush(self) -> None:
        """See `Recorder.flush`."""
        await self._recorder.flush()

    @property
    def trouble(self) -> str:
        """Why events are missing in the state. Empty if none are."""
        return self._recorder.lost.message if self._recorder.lost is not None else ""


@contextlib.asynccontextmanager
async def recording(
    state: State,
    journal: Journal,
    folder: Path,
    *,
    plan: str | None = None,
    must_record: bool,
    entered: Entered | None = None,
) -> AsyncIterator[Record]:
    """Record everything that the journal emits while inside, beginning with what it emitted before.

    With `must_record`, nothing begins that cannot be recorded. What `entered` names comes into the ledger too.
    """
    recorder = state.recorder(journal.run, plan=plan, entered=entered)
    telling = asyncio.create_task(_tell(journal, recorder))
    with contextlib.ExitStack() as files:
        file = None
        with contextlib.suppress(OSError):  # the state reports trouble with the folder
            file = files.enter_context((folder / EVENTS).open("a", encoding="utf-8"))
        record = Record(recorder, file)
        try:
            journal.record_in(record, must_record=must_record)
            yield record
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await in_state(recorder.close)


async def _tell(journal: Journal, recorder: Recorder) -> None:
    """Tell when what is told cannot be recorded, and when it is recorded after all."""
    lost_at: float | None = None
    while True:
        await asyncio.sleep(INTERVAL)
        if (lost := recorder.lost) is not None and lost_at is None:
            lost_at = time.monotonic()
            journal.emit(RecordingLost(why=lost.message))
        elif lost is None and lost_at is not None:
            journal.emit(RecordingResumed(seconds=round(time.monotonic() - lost_at, 3)))
            lost_at = None
