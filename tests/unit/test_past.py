"""What the folder of an earlier run tells, whatever became of its controller."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fleet.deploy.past import PastRun, is_open, past_runs, read_run
from fleet.events import Event, HostFinished, PhaseStarted, RunStarted, event_json
from fleet.model import Failure, Goal, HostName, HostResult, Outcome, Phase
from tests.unit.builders import RUN

if TYPE_CHECKING:
    from pathlib import Path

WEB = HostName("web-1")
STARTED = RunStarted(run=RUN, verb="rollback", goal=Goal.TEST, hosts=(WEB,), watch=90.0, strict=True)
SWITCH = PhaseStarted(host=WEB, phase=Phase.SWITCH)


def read(folder: Path, *events: Event) -> PastRun:
    (folder / "events.jsonl").write_text("".join(f"{json.dumps(event_json(event))}\n" for event in events))
    return read_run(folder)


def ended(outcome: Outcome, kind: str = "") -> HostFinished:
    failure = Failure(kind=kind, message="because") if kind else None
    return HostFinished(host=WEB, result=HostResult(host=WEB, outcome=outcome, failure=failure))


def test_run_remembers_what_was_asked_for(tmp_path: Path) -> None:
    run = read(tmp_path, STARTED)
    assert (run.verb, run.goal, run.watch, run.strict, list(run.hosts)) == ("rollback", Goal.TEST, 90.0, True, [WEB])


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
def test_host_is_settled_when_nothing_can_change_it_any_more(
    tmp_path: Path, end: HostFinished, *, is_settled: bool
) -> None:
    run = read(tmp_path, STARTED, SWITCH, end)
    assert (run.hosts[WEB].is_settled, run.is_open) == (is_settled, not is_settled)


@pytest.mark.parametrize(
    ("phase", "begun", "heard"),
    [
        ("push", False, False),
        ("switch", True, False),
        ("reboot", True, True),
        ("prove", True, True),
    ],
)
def test_host_that_was_asked_need_not_have_begun(tmp_path: Path, phase: str, *, begun: bool, heard: bool) -> None:
    phases = [Phase.PUSH, Phase.SWITCH, Phase.REBOOT, Phase.PROVE]
    events = [PhaseStarted(host=WEB, phase=one) for one in phases[: phases.index(Phase(phase)) + 1]]
    host = read(tmp_path, STARTED, *events).hosts[WEB]
    assert (host.pushed, host.begun, host.heard) == (True, begun, heard)


def test_run_that_cannot_be_read_costs_only_itself(tmp_path: Path) -> None:
    for name, text in (("1", '{"event": "run_started"}\n[]\n7\n{"event": "run_fin'), ("2", ""), ("3", None)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        if text is not None:
            (tmp_path / "runs" / name / "events.jsonl").write_text(text)
    (tmp_path / "runs" / "4").symlink_to("4")
    read(tmp_path / "runs" / "3", STARTED, SWITCH)
    assert [(run.id, run.verb) for run in past_runs(tmp_path)] == [("3", "rollback"), ("2", ""), ("1", "")]
    assert [is_open(tmp_path / "runs" / name) for name in ("1", "3", "4")] == [False, True, False]
