"""A run that cannot be recorded for a while: it is told when that begins, and when everything is recorded after all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fleet.deploy.journal import Journal
from fleet.errors import StateError
from fleet.events import Event, RecordingLost, RecordingResumed
from fleet.library import record
from fleet.output.facts import fact_lines
from fleet.state import RunRecord, State
from tests.unit.state_builders import RUN, SWITCH, open_state, started

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet.events import Envelope


class Away:
    """A state whose database comes and goes."""

    def __init__(self, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_away = False
        add = state._archive.add  # type: ignore[attr-defined]

        def try_to(new: RunRecord, envelopes: Sequence[Envelope], **rest: object) -> None:
            if self.is_away:
                raise StateError("the database is away")
            add(new, envelopes, **rest)

        monkeypatch.setattr(state._archive, "add", try_to)  # type: ignore[attr-defined]


async def test_it_is_told_once_that_nothing_can_be_recorded_and_once_that_all_of_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "INTERVAL", 0.01)
    monkeypatch.setattr("fleet.state.recorder.AGAIN", 0.01)
    state, told = open_state(tmp_path), list[Event]()
    away, journal = Away(state, monkeypatch), Journal(RunRecord(id=RUN), "ann")
    seen = asyncio.Event()

    def listen(envelope: Envelope) -> None:
        told.append(envelope.event)
        if isinstance(envelope.event, RecordingLost | RecordingResumed):
            seen.set()

    journal.listen(listen)
    with state.hold(RUN) as folder:
        async with record.recording(state, journal, folder, must_record=True) as kept:
            journal.emit(started())
            await journal.flush()
            away.is_away = True
            journal.emit(SWITCH)
            await seen.wait()
            seen.clear()
            assert kept.trouble == "the database is away"
            with pytest.raises(StateError):
                await journal.flush()
            away.is_away = False
            await seen.wait()
            await journal.flush()
    assert told[:2] == [started(), SWITCH]
    lost, resumed = told[2:]
    assert lost == RecordingLost(why="the database is away")
    assert isinstance(resumed, RecordingResumed)
    assert [envelope.event for envelope in state.events(RUN)] == told
    assert fact_lines(lost)[0].startswith("fleet: the database is away; no further host begins until it is back")
    assert fact_lines(resumed)[0].startswith("fleet: everything is recorded again, after ")
