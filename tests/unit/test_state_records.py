"""What became of a run, folded from its events: the same while it goes on and afterwards."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.events import (
    CheckReported,
    Envelope,
    Event,
    HostCondemned,
    HostPlanned,
    HostSwitched,
    OutputLine,
    PushProgressed,
    RunInterrupted,
)
from fleet.model import CheckAnswer, Closure, Goal, HostName, Outcome, Phase, RunId
from fleet.state import HostRecord, Hosts, RunRecord, fold, fold_all
from fleet.state.records import FOLDED
from tests.unit.state_builders import DB, PUSH, RUN, SWITCH, WEB, ended, finished, result, started, wrapped

if TYPE_CHECKING:
    from fleet.events import HostFinished

OLD, NEW = Closure("/nix/store/old"), Closure("/nix/store/new")
PLANNED = HostPlanned(
    host=WEB, action="switch", closure=NEW, running=OLD, wave=1, missing_paths=1, missing_bytes=2, reboot=("kernel",)
)
EVENTS: list[Event] = [
    started(WEB, DB),
    started(WEB, DB, verb="resume"),
    PLANNED,
    PUSH,
    SWITCH,
    *(dataclasses.replace(SWITCH, host=DB, phase=phase) for phase in Phase),
    HostSwitched(host=WEB, closure=NEW, status=4, seconds=1.0),
    *(CheckReported(host=WEB, check="http", passed=True, answer="200", stage=stage) for stage in ("before", "after")),
    HostCondemned(host=WEB, closure=NEW, reason="sick"),
    PushProgressed(host=WEB, sent=1, total=2),
    OutputLine(host=WEB, phase=Phase.SWITCH, text="line"),
    RunInterrupted(),
    *(ended(outcome, kind) for outcome, kind in ((Outcome.KEPT, ""), (Outcome.NEEDS_HUMAN, "in_doubt"))),
    finished(result(Outcome.KEPT)),
    finished(exit_code=130),
]


def folded(*events: Event) -> RunRecord:
    return fold_all(RunRecord(id=RUN), wrapped(*events))


def test_run_remembers_what_was_asked_for_and_when_and_by_whom() -> None:
    run = folded(started(WEB, DB, verb="rollback", goal=Goal.TEST, watch=90.0, strict=True))
    assert run == RunRecord(
        id=RUN,
        verb="rollback",
        goal=Goal.TEST,
        watch=90.0,
        strict=True,
        by="ann",
        started=1795946400.5,
        hosts=Hosts([HostRecord(name=WEB), HostRecord(name=DB)]),
        last_seq=1,
    )


def test_run_that_ended_has_an_exit_code_and_a_time() -> None:
    run = folded(started(), finished(exit_code=4))
    assert (run.exit_code, run.finished, run.last_seq) == (4, 1795946400.5, 2)


def test_run_that_is_resumed_is_the_same_run_and_goes_on() -> None:
    first = folded(started(verb="push", goal=Goal.TEST), finished(exit_code=4))
    again = started(verb="resume", goal=Goal.TEST)
    (envelope,) = wrapped(again, after=2, at=1795946500.0)
    assert fold(first, dataclasses.replace(envelope, by="eve")) == dataclasses.replace(
        first, exit_code=None, finished=None, last_seq=3
    )


def test_hosts_of_a_run_of_which_only_the_resuming_is_known_may_all_have_begun() -> None:
    run = folded(started(WEB, verb="resume"))
    assert (run.verb, run.hosts[WEB].begun, run.is_open) == ("resume", True, True)


def test_host_remembers_what_was_planned_for_it() -> None:
    host = folded(started(), PLANNED).hosts[WEB]
    assert host == HostRecord(name=WEB, closure=NEW, previous=OLD, reboot=("kernel",))


@pytest.mark.parametrize(
    ("last", "flags"),
    [
        (Phase.PREFLIGHT, set()),
        (Phase.PUSH, {"pushed"}),
        (Phase.SWITCH, {"pushed", "begun"}),
        (Phase.REBOOT, {"pushed", "begun", "heard", "by_reboot"}),
        (Phase.PROVE, {"pushed", "begun", "heard", "by_reboot"}),
    ],
)
def test_host_that_was_asked_need_not_have_begun(last: Phase, flags: set[str]) -> None:
    phases = [Phase.PREFLIGHT, Phase.PUSH, Phase.SWITCH, Phase.REBOOT, Phase.PROVE]
    events = [dataclasses.replace(PUSH, phase=phase) for phase in phases[: phases.index(last) + 1]]
    host = folded(started(), *events).hosts[WEB]
    assert {name for name in ("pushed", "begun", "heard", "by_reboot", "switched") if getattr(host, name)} == flags


@pytest.mark.parametrize("phase", [Phase.PROVE, Phase.COMMIT, Phase.REVERT])
def test_host_that_came_this_far_was_heard_of(phase: Phase) -> None:
    assert folded(started(), dataclasses.replace(PUSH, phase=phase)).hosts[WEB].heard


def test_host_whose_switch_has_ended_was_heard_of() -> None:
    host = folded(started(), HostSwitched(host=WEB, closure=NEW, status=0, seconds=1.0)).hosts[WEB]
    assert (host.switched, host.heard) == (True, True)


def test_only_what_checks_said_before_the_switch_is_remembered() -> None:
    def said(check: str, answer: str, stage: str) -> CheckReported:
        return CheckReported(host=WEB, check=check, passed=answer == "200", answer=answer, stage=stage)

    host = folded(
        started(), said("http", "503", "before"), said("http", "200", "before"), said("api", "no", "before"),
        said("http", "500", "after"), said("api", "200", "reverted"),
    ).hosts[WEB]  # fmt: skip
    assert host.before == {
        "http": CheckAnswer(check="http", passed=True, said="200", seconds=0.0),
        "api": CheckAnswer(check="api", passed=False, said="no", seconds=0.0),
    }


@pytest.mark.parametrize(
    ("end", "is_settled"),
    [
        (ended(Outcome.KEPT), True),
        (ended(Outcome.ROLLED_BACK, "unhealthy"), True),
        (ended(Outcome.NEEDS_HUMAN, "stuck"), True),
        (ended(Outcome.NEEDS_HUMAN, "in_doubt"), False),
        (ended(Outcome.NEEDS_HUMAN, "bug"), False),
        (ended(Outcome.FAILED, "bug"), True),
    ],
)
def test_host_is_settled_when_nothing_can_change_it_any_more(end: HostFinished, *, is_settled: bool) -> None:
    run = folded(started(), SWITCH, end)
    assert (run.hosts[WEB].is_settled, run.is_open) == (is_settled, not is_settled)


@pytest.mark.parametrize(
    ("events", "is_open"),
    [
        ([], False),
        ([PUSH], True),
        ([SWITCH], True),
        ([PUSH, finished(exit_code=1)], False),
        ([SWITCH, finished(exit_code=130)], True),
        ([SWITCH, ended(Outcome.KEPT)], False),
    ],
)
def test_run_is_open_while_a_host_of_it_may_have_roots_or_have_begun(events: list[Event], *, is_open: bool) -> None:
    assert folded(started(), *events).is_open is is_open


def test_end_of_the_run_tells_results_that_are_missing() -> None:
    run = folded(started(WEB, DB), SWITCH, finished(result(Outcome.KEPT), result(Outcome.SKIPPED, host=HostName("x"))))
    assert run.hosts[WEB].result == result(Outcome.KEPT)
    assert list(run.hosts) == [WEB, DB]
    assert not run.is_open


def test_run_without_a_beginning_is_not_readable() -> None:
    assert not folded().is_readable
    assert not folded(SWITCH, finished()).is_readable
    assert folded(started()).is_readable


def test_hosts_that_are_not_of_the_run_are_ignored() -> None:
    assert folded(started(WEB), dataclasses.replace(SWITCH, host=DB)) == dataclasses.replace(
        folded(started(WEB)), last_seq=2
    )


@given(st.lists(st.sampled_from(EVENTS)))
def test_events_that_are_not_read_back_change_nothing_but_the_number_of_the_last_one(events: list[Event]) -> None:
    told = wrapped(*events)
    read = [envelope for envelope in told if isinstance(envelope.event, FOLDED)]
    assert fold_all(RunRecord(id=RUN), told) == dataclasses.replace(
        fold_all(RunRecord(id=RUN), read), last_seq=len(told)
    )


@given(st.lists(st.sampled_from(EVENTS)), st.sampled_from(EVENTS))
def test_record_that_was_folded_on_is_as_it_was(events: list[Event], more: Event) -> None:
    before, same = folded(*events), folded(*events)
    fold(before, Envelope(run=RUN, seq=99, at=1.0, by="", event=more))
    assert before == same


def test_one_more_event_costs_little_however_many_hosts_there_are() -> None:
    hosts = [HostName(f"host-{number}") for number in range(10_000)]
    record = folded(started(*hosts))
    (envelope,) = wrapped(dataclasses.replace(SWITCH, host=hosts[7_777]))
    fold(record, envelope)
    tracemalloc.start()
    try:
        after = fold(record, envelope)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 8_000  # bytes; a copy of the mapping has 300,000
    assert [host.name for host in after.hosts.values() if host.begun] == [hosts[7_777]]


@given(st.lists(st.integers(0, 300), max_size=20), st.integers(1, 300))
def test_hosts_are_a_mapping_that_does_not_change(changes: list[int], count: int) -> None:
    records = [HostRecord(name=HostName(str(number))) for number in range(count)]
    hosts, expected = Hosts(records), {record.name: record for record in records}
    for place, number in enumerate(number % count for number in changes):
        record = dataclasses.replace(records[number], closure=Closure(str(place)))
        before, copy = hosts, dict(expected)
        hosts, expected = hosts.replace(record), {**expected, record.name: record}
        assert before == copy
    assert hosts == expected
    assert list(hosts.items()) == list(expected.items())
    assert hosts.get(HostName("none")) is None
    with pytest.raises(KeyError):
        hosts.replace(HostRecord(name=HostName("none")))


def test_record_without_times_has_none() -> None:
    (first, last) = wrapped(started(), finished(), at=0.0)
    run = fold_all(RunRecord(id=RunId("r")), [first, last])
    assert (run.started, run.finished) == (None, None)
