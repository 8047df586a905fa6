"""What happens in one run: kept, numbered, and passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.deploy.journal import Journal
from fleet.errors import StateError
from fleet.events import HostFinished, HostSwitched, PhaseStarted, RunFinished, RunInterrupted, RunStarted
from fleet.model import Goal, HostName, HostResult, Outcome, Phase, Verb
from fleet.state import RunRecord
from tests.unit.builders import NEW, RUN

if TYPE_CHECKING:
    from fleet.events import Envelope

A, B = HostName("a"), HostName("b")
STARTED = RunStarted(run=RUN, verb=Verb.DEPLOY, goal=Goal.SWITCH, hosts=(A, B), watch=0.0, strict=False)
KEPT = HostResult(host=A, outcome=Outcome.KEPT)


class Kept:
    """A recorder in memory."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.envelopes: list[Envelope] = []
        self.is_full = is_full

    def record(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)

    async def flush(self) -> None:
        if self.is_full:
            raise StateError("no space")


def journal(*, after: int = 0) -> Journal:
    return Journal(RunRecord(id=RUN, last_seq=after), "ann")


def test_events_are_numbered_and_say_who_acts() -> None:
    told, heard = journal(), list["Envelope"]()
    told.listen(heard.append)
    told.emit(STARTED)
    told.emit(RunInterrupted())
    assert [(one.run, one.seq, one.by, one.event) for one in heard] == [
        (RUN, 1, "ann", STARTED), (RUN, 2, "ann", RunInterrupted()),
    ]  # fmt: skip


def test_run_that_is_taken_up_goes_on_counting() -> None:
    told, heard = journal(after=41), list["Envelope"]()
    told.listen(heard.append)
    told.emit(RunInterrupted())
    assert [one.seq for one in heard] == [42]


def test_result_is_kept_before_anybody_is_told() -> None:
    told, seen = journal(), list[tuple[object, ...]]()
    told.listen(lambda envelope: seen.append((envelope.event, dict(told.results))))
    told.finish(KEPT)
    assert seen == [(HostFinished(host=A, result=KEPT), {A: KEPT})]


def test_result_is_recorded_before_anybody_is_told() -> None:
    told, recorder = journal(), Kept()
    told.record_in(recorder, must_record=True)
    recorded: list[int] = []
    told.listen(lambda _: recorded.append(len(recorder.envelopes)))
    told.finish(KEPT)
    assert recorded == [1]


def test_result_is_kept_though_a_listener_fails() -> None:
    told, recorder = journal(), Kept()
    told.record_in(recorder, must_record=True)

    def deaf(_: object) -> None:
        raise LookupError

    told.listen(deaf)
    with pytest.raises(LookupError):
        told.finish(KEPT)
    assert (dict(told.results), len(recorder.envelopes)) == ({A: KEPT}, 1)


def test_events_from_before_reach_the_recorder_once_and_in_order() -> None:
    told, first, second = journal(), Kept(), Kept()
    told.emit(STARTED)
    told.emit(RunInterrupted())
    assert list(told.early_events) == [STARTED, RunInterrupted()]
    told.record_in(first, must_record=True)
    told.emit(RunInterrupted())
    assert ([one.seq for one in first.envelopes], list(told.early_events)) == ([1, 2, 3], [])
    told.record_in(second, must_record=True)
    assert second.envelopes == []


def test_who_listens_later_is_told_nothing_twice() -> None:
    told, first, second = journal(), list["Envelope"](), list["Envelope"]()
    told.listen(first.append)
    told.emit(STARTED)
    told.listen(second.append)
    told.emit(RunInterrupted())
    assert ([one.seq for one in first], [one.seq for one in second]) == ([1], [2])


@pytest.mark.parametrize(
    ("is_full", "must_record", "begins"),
    [(False, True, True), (False, False, True), (True, True, False), (True, False, True)],
)
async def test_nothing_begins_that_has_to_be_recorded_and_is_not(
    *, is_full: bool, must_record: bool, begins: bool
) -> None:
    told = journal()
    told.record_in(Kept(is_full=is_full), must_record=must_record)
    if begins:
        await told.flush()
    else:
        with pytest.raises(StateError):
            await told.flush()


async def test_run_that_nobody_records_is_as_secure_as_it_can_be() -> None:
    await journal().flush()


def test_what_was_told_says_how_far_a_host_is() -> None:
    told = journal()
    told.emit(STARTED)
    assert (told.has_begun(A), told.has_switched(A)) == (False, False)
    told.emit(PhaseStarted(host=A, phase=Phase.SWITCH))
    assert (told.has_begun(A), told.has_switched(A), told.has_begun(B)) == (True, False, False)
    told.emit(HostSwitched(host=A, closure=NEW, status=0, seconds=1.0))
    assert (told.has_begun(A), told.has_switched(A)) == (True, True)
    assert (told.has_begun(HostName("nobody")), told.has_switched(HostName("nobody"))) == (False, False)


def test_record_has_what_was_told() -> None:
    told = journal()
    told.emit(STARTED)
    told.finish(KEPT)
    told.emit(RunFinished(run=RUN, exit_code=0, error=None, hosts=(KEPT,)))
    assert (told.run, told.record.verb, told.record.exit_code, told.record.last_seq) == (RUN, "deploy", 0, 3)
    assert told.record.hosts[A].result == KEPT
