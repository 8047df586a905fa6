"""Folders of fleet 0.1.0, or of a database that was lost, are read in: once, whatever interrupts it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from fleet.events import OutputLine, PushProgressed, encode
from fleet.model import Outcome, Phase
from fleet.state import RunRecord, fold_all
from tests.unit.state_builders import (
    PUSH,
    RUN,
    SWITCH,
    WEB,
    ended,
    finished,
    folder_of_0_1_0,
    folder_of_today,
    old_line,
    open_state,
    python,
    recorded,
    result,
    run_id,
    said,
    started,
    wrapped,
)

if TYPE_CHECKING:
    from pathlib import Path

LINE = OutputLine(host=WEB, phase=Phase.BUILD, text="line")
PROGRESS = PushProgressed(host=WEB, sent=1, total=2)
STARTED_AT = 1795148531.0
"""2026-11-20 04:22:11 UTC, as the id of the run says."""
READ = """
import sys; from pathlib import Path; from tests.unit.state_builders import open_state
sys.stdin.readline()
state = open_state(Path(sys.argv[1]))
print([(run.id, run.verb, len(state.events(run.id))) for run in state.runs()], flush=True)
"""
DIE_AMID = """
import os, signal, sys; from pathlib import Path; from fleet.state import queries
from tests.unit.state_builders import open_state
add = queries.add_events
def die(connection, envelopes):
    add(connection, envelopes[:2])
    os.kill(os.getpid(), signal.SIGKILL)
queries.add_events = die
open_state(Path(sys.argv[1])).runs()
"""


def test_run_of_0_1_0_is_read_in_with_all_it_told_but_the_progress_of_pushes(tmp_path: Path) -> None:
    told = (started(), PUSH, LINE, PROGRESS, SWITCH, ended(Outcome.KEPT), finished(result(Outcome.KEPT)))
    folder = folder_of_0_1_0(tmp_path, RUN, *told)
    os.utime(folder / "events.jsonl", (STARTED_AT + 90, STARTED_AT + 90))
    (run,) = open_state(tmp_path).runs()
    assert (run.id, run.verb, run.by, run.plan, run.exit_code, run.is_open) == (RUN, "deploy", "", None, 0, False)
    assert (run.started, run.finished, run.hosts[WEB].result) == (STARTED_AT, STARTED_AT + 90, result(Outcome.KEPT))
    (folder / "events.jsonl").unlink()
    assert open_state(tmp_path).runs() == [run]
    events = open_state(tmp_path).events(RUN)
    assert [envelope.event for envelope in events] == [event for event in told if event is not PROGRESS]
    assert [envelope.seq for envelope in events] == [1, 2, 3, 5, 6, 7]


@pytest.mark.parametrize("way", ["run", "events"])
def test_one_run_is_read_in_when_it_is_asked_for(tmp_path: Path, way: str) -> None:
    state, told = open_state(tmp_path), (started(), PUSH)
    for number in (1, 2):
        folder_of_0_1_0(tmp_path, run_id(number), *told)
    if way == "run":
        run = state.run(run_id(1))
        assert run is not None
        assert run.hosts[WEB].pushed
    else:
        assert [envelope.event for envelope in state.events(run_id(1), after=1)] == [PUSH]
    for number in (1, 2):
        (state.folder(run_id(number)) / "events.jsonl").unlink()
    assert [run.id for run in state.runs()] == [run_id(1)]


def test_nothing_is_read_in_when_a_run_begins(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    folder_of_0_1_0(tmp_path, run_id(1), started())
    with state.hold(RUN):
        recorded(state, started())
    state.speeds()
    (state.folder(run_id(1)) / "events.jsonl").unlink()
    assert [run.id for run in state.runs()] == [RUN]


def test_run_that_began_before_watch_and_strict_were_told_is_read_in(tmp_path: Path) -> None:
    folder = folder_of_0_1_0(tmp_path, RUN)
    line = {"event": "run_started", "run": RUN, "verb": "push", "goal": "test", "hosts": ["web-1"]}
    (folder / "events.jsonl").write_text(json.dumps(line))
    (run,) = open_state(tmp_path).runs()
    assert (run.verb, run.goal, run.watch, run.strict, list(run.hosts)) == ("push", "test", 0.0, False, [WEB])


def test_lines_that_are_cut_or_damaged_cost_only_themselves(tmp_path: Path) -> None:
    folder = folder_of_0_1_0(tmp_path, RUN)
    good = [old_line(event).encode() for event in (started(), PUSH, SWITCH)]
    bad = [b"\n", b"[]\n", b"7\n", b"\xff\x00\n", b'{"event": "phase_started", "host": 7}\n', b'{"event": "moon"}\n']
    lines = [good[0], *bad, good[1], b'{"event": "run_finished", "run": "r"}\n', good[2], good[2][:-9]]
    (folder / "events.jsonl").write_bytes(b"".join(lines))
    state = open_state(tmp_path)
    assert state.runs()[0].hosts[WEB].begun
    assert [(one.seq, one.event) for one in state.events(RUN)] == [(1, started()), (8, PUSH), (10, SWITCH)]


def test_run_whose_record_cannot_be_read_costs_only_itself(tmp_path: Path) -> None:
    folder_of_0_1_0(tmp_path, run_id(1))
    folder_of_0_1_0(tmp_path, run_id(2), started(), SWITCH)
    (folder_of_0_1_0(tmp_path, run_id(3)) / "events.jsonl").write_text('{"event": "run_started"}\n{"event": "run_fin')
    (folder_of_0_1_0(tmp_path, run_id(4)) / "events.jsonl").unlink()
    (tmp_path / "runs" / run_id(4) / "events.jsonl").mkdir()
    (tmp_path / "runs" / run_id(5)).symlink_to(run_id(5))
    (tmp_path / "runs" / "file").write_text("")
    for _ in range(2):
        runs = open_state(tmp_path).runs()
        assert [(run.id, run.is_readable, run.is_open) for run in runs] == [
            (run_id(4), False, False),
            (run_id(3), False, False),
            (run_id(2), True, True),
            (run_id(1), False, False),
        ]


def test_build_is_no_run(tmp_path: Path) -> None:
    with open_state(tmp_path).hold(RUN):
        pass
    assert open_state(tmp_path).runs() == []
    assert open_state(tmp_path).run(RUN) is None


def test_what_is_in_the_database_is_not_read_in_again(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    recorded(state, started(), PUSH)
    folder_of_today(state, *wrapped(started(), PUSH, SWITCH))
    assert [envelope.event for envelope in state.events(RUN)] == [started(), PUSH]
    assert not state.runs()[0].hosts[WEB].begun


def test_database_that_was_lost_is_made_again_from_the_folders(tmp_path: Path) -> None:
    state, told = open_state(tmp_path), wrapped(started(), PUSH, PROGRESS, SWITCH, LINE)
    recorded(state, *(envelope.event for envelope in told))
    folder_of_today(state, *told)
    before, events = state.runs(), state.events(RUN)
    (tmp_path / "state.db").unlink()
    assert open_state(tmp_path).runs() == before
    (state.folder(RUN) / "events.jsonl").unlink()
    assert (open_state(tmp_path).runs(), open_state(tmp_path).events(RUN)) == (before, events)


def test_run_of_0_1_0_that_was_resumed_today_is_read_in_whole(tmp_path: Path) -> None:
    folder = folder_of_0_1_0(tmp_path, RUN, started(), SWITCH)
    with (folder / "events.jsonl").open("a") as record:
        for envelope in wrapped(started(verb="resume"), ended(Outcome.KEPT)):  # numbered as where nothing was known
            record.write(f"{encode(envelope)}\n")
    state = open_state(tmp_path)
    (run,) = state.runs()
    assert (run.verb, run.is_open) == ("deploy", False)
    assert [(one.seq, one.event) for one in state.events(RUN)] == [
        (1, started()), (2, SWITCH), (3, started(verb="resume")), (4, ended(Outcome.KEPT)),
    ]  # fmt: skip


def test_run_that_is_under_way_is_seen_and_left_for_later(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    folder_of_0_1_0(tmp_path, RUN, started())
    with state.hold(RUN) as folder:
        assert [(run.id, run.verb) for run in state.runs()] == [(RUN, "deploy")]
        with (folder / "events.jsonl").open("a") as record:
            record.write(old_line(SWITCH))
    (run,) = state.runs()
    assert run.hosts[WEB].begun


def test_reading_in_that_is_killed_is_done_the_next_time(tmp_path: Path) -> None:
    told = (started(), PUSH, SWITCH, LINE)
    for number in (1, 2):
        folder_of_0_1_0(tmp_path, run_id(number), *told)
    with python(DIE_AMID, tmp_path) as other:
        assert other.wait() == -9
    state = open_state(tmp_path)
    assert [run.id for run in state.runs()] == [run_id(2), run_id(1)]
    for number in (1, 2):
        assert [envelope.event for envelope in state.events(run_id(number))] == list(told)


def test_reading_in_by_many_processes_at_once_is_done_once(tmp_path: Path) -> None:
    runs = [run_id(number) for number in range(5)]
    for run in runs:
        folder_of_0_1_0(tmp_path, run, started(run=run), *[LINE] * 200)
    expected = str([(str(run), "deploy", 201) for run in reversed(runs)])
    with python(READ, tmp_path) as one, python(READ, tmp_path) as two, python(READ, tmp_path) as three:
        for other in (one, two, three):
            assert other.stdin is not None
            other.stdin.write("\n")
            other.stdin.flush()
        assert [said(other) for other in (one, two, three)] == [expected] * 3
    assert [len(open_state(tmp_path).events(run)) for run in runs] == [201] * 5


def test_folders_tell_the_runs_without_the_database(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    folder_of_today(state, *wrapped(started(), SWITCH))
    folder_of_0_1_0(tmp_path, run_id(1), started())
    found = state.runs_in_folders()
    assert not (tmp_path / "state.db").exists()
    assert [run.id for run in found] == [RUN, run_id(1)]
    assert found[0] == fold_all(RunRecord(id=RUN), wrapped(started(), SWITCH))
