"""`fleet runs show`: what became of a run, and of one host step by step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fleet import Fleet
from fleet.errors import StateError
from fleet.events import (
    CheckReported,
    HostCondemned,
    HostFinished,
    HostPlanned,
    HostSwitched,
    OutputLine,
    PhaseStarted,
    UndoStarted,
)
from fleet.library.past import find_run
from fleet.model import Failure, FailureKind, HostName, HostResult, Outcome, Phase, Verb
from fleet.state import RunRecord
from tests.fakes import runs
from tests.unit.builders import NEW, OLD
from tests.unit.state_builders import RUN, finished, recorded, run_id, started
from tests.unit.world import BROKEN, VALID, World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import CommandLine

A, B = HostName("a"), HostName("b")
FAILED = HostResult(
    host=A,
    outcome=Outcome.ROLLED_BACK,
    closure=NEW,
    previous=OLD,
    seconds=19.0,
    failure=Failure(
        kind=FailureKind.UNHEALTHY, message="check web: 503", said=("web[7]: no such file",), now="runs OLD"
    ),
)
KEPT = HostResult(host=B, outcome=Outcome.KEPT, closure=NEW, previous=OLD, seconds=5.0, boot_default=True)


def planned(host: HostName) -> HostPlanned:
    return HostPlanned(
        host=host, action="switch", closure=NEW, running=OLD, wave=1, missing_paths=1, missing_bytes=2, reboot=()
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two hosts, and a run in which the first went back."""
    world = World(tmp_path, "a", "b")
    recorded(
        world.state,
        started(A, B),
        *map(planned, (A, B)),
        PhaseStarted(host=A, phase=Phase.PUSH),
        PhaseStarted(host=A, phase=Phase.SWITCH),
        OutputLine(host=A, phase=Phase.SWITCH, text="restarting web.service"),
        HostSwitched(host=A, closure=NEW, status=0, seconds=1.5),
        PhaseStarted(host=A, phase=Phase.PROVE),
        CheckReported(host=A, check="web", passed=False, answer="503", stage="after"),
        HostCondemned(host=A, closure=NEW, reason="check web: 503"),
        HostFinished(host=A, result=FAILED),
        HostFinished(host=B, result=KEPT),
        finished(FAILED, KEPT, exit_code=1),
    )
    with world.state.hold(RUN) as folder:
        (folder / "hosts" / "a").mkdir(parents=True)
        (folder / "hosts" / "a" / "journal.txt").write_text("web: no such file\n")
    return world


def test_run_is_shown_with_its_outcomes_and_the_lines_that_matter(world: World, command_line: CommandLine) -> None:
    said = command_line(world, "runs", "show", RUN)
    assert said.code == 0
    head, *rest = said.out.splitlines()
    assert head.startswith(f"run {RUN}: deploy 2 hosts, by ann, ")
    assert head.endswith("exit code 1")
    assert [line.split()[:2] for line in rest if line.startswith(("a  ", "b  "))] == [["a", "rolled"], ["b", "kept"]]
    assert "error: a: check web: 503\n  said:  web[7]: no such file\n  now:   runs OLD" in said.out
    assert f"evidence of a in {world.state.folder(RUN)}/hosts" in said.out
    assert world.links[A].ran == world.links[B].ran == []


def test_host_is_shown_step_by_step(world: World, command_line: CommandLine) -> None:
    said = command_line(world, "runs", "show", RUN[:8], "a")
    assert said.code == 0
    steps = [line.split(maxsplit=1)[1] for line in said.out.splitlines() if line.startswith("  ") and line[4:5] == ":"]
    assert [step.split()[0] for step in steps] == [
        "plan:",
        "push",
        "switch",
        "switched",
        "prove",
        "check",
        "goes",
        "rolled",
    ]
    assert "prove  0.0 s" in said.out
    assert "error: a: check web: 503" in said.out
    assert "journal.txt" in said.out
    assert "restarting web.service" not in said.out
    assert world.links[A].ran == []  # both systems are in the store here


def test_the_way_back_of_a_host_that_was_undone_is_told_apart(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    recorded(
        world.state,
        started(A, B),
        HostFinished(host=B, result=KEPT),
        UndoStarted(hosts=(B,), undo=run_id(7)),
        PhaseStarted(host=B, phase=Phase.SWITCH),
    )
    lines = command_line(world, "runs", "show", RUN, "b").out.splitlines()
    kept, undone, switch = (next(n for n, line in enumerate(lines) if word in line) for word in ("kept", "goes", "swi"))
    assert kept < undone < switch
    assert lines[undone].endswith(f"the run has failed: goes back, as run {run_id(7)}")
    assert "goes back" not in command_line(world, "runs", "show", RUN, "a").out


def test_what_is_not_here_any_more_is_read_on_the_host(world: World, command_line: CommandLine) -> None:
    world.here_too((VALID, BROKEN))
    said = command_line(world, "runs", "show", RUN, "a")
    assert (said.code, "a: " in said.out) == (0, True)
    assert len(world.links[A].ran) == 2
    world.on("a", (runs("sh", "-c"), BROKEN))
    said = command_line(world, "runs", "show", RUN, "a")
    assert (said.code, "what run" in said.err, "is not known any more" in said.err) == (0, True, True)


def test_document_has_events_results_evidence_and_the_difference(world: World, command_line: CommandLine) -> None:
    whole = json.loads(command_line(world, "runs", "show", RUN, "--json").out)
    assert (whole["run"], whole["verb"], whole["by"], whole["exit_code"]) == (RUN, "deploy", "ann", 1)
    assert [host["result"]["outcome"] for host in whole["hosts"]] == ["rolled_back", "kept"]
    assert (whole["events"][0]["event"], whole["events"][-1]["event"]) == ("run_started", "run_finished")
    assert whole["diff"] is None
    one = json.loads(command_line(world, "runs", "--json", "show", RUN, "a").out)
    assert {event["host"] for event in one["events"]} == {"a"}
    assert one["hosts"][0]["evidence"] == [str(world.state.folder(RUN) / "hosts/a/journal.txt")]
    assert (one["diff"]["name"], one["diff"]["from"], one["diff"]["to"]) == ("a", OLD, NEW)


def test_run_that_was_cut_short_names_the_hosts_whose_end_is_not_known(
    tmp_path: Path, command_line: CommandLine
) -> None:
    world = World(tmp_path, "a")
    recorded(world.state, started(A), planned(A), PhaseStarted(host=A, phase=Phase.SWITCH))
    said = command_line(world, "runs", "show", RUN)
    assert "cut short" in said.out
    assert f"not known how it ended: a: fleet resume {RUN}" in said.out
    assert "not known how it ended" in command_line(world, "runs", "show", RUN, "a").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["2099"], "there is no run 2099"),
        ([""], "there is no run"),
        ([RUN, "zz"], f"zz: was not in run {RUN}"),
        ([], "Missing argument 'RUN'"),
    ],
)
def test_what_is_not_there_is_exit_2(
    world: World, command_line: CommandLine, arguments: list[str], message: str
) -> None:
    said = command_line(world, "runs", "show", *arguments)
    assert (said.code, said.out, message in said.err) == (2, "", True), said


def test_beginning_has_to_name_one_run() -> None:
    records = [(RunRecord(id=run_id(number)), False) for number in (1, 12)]
    assert find_run(records, run_id(1)) == records[0]
    with pytest.raises(Exception, match="2 runs begin with"):
        find_run(records, "2026")


def test_list_is_as_it_was(world: World, command_line: CommandLine) -> None:
    said = command_line(world, "runs")
    assert (said.code, said.out.split()[:4]) == (0, ["run", "command", "ended", "hosts"])
    assert json.loads(command_line(world, "runs", "--json").out)["runs"][0]["run"] == RUN


def test_runs_are_listed_though_the_database_does_not_say_what_is_asked_of_one(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, "a")

    async def runs(_: object) -> list[tuple[RunRecord, bool]]:
        return [(RunRecord(id=RUN, verb=Verb.DEPLOY), True)]

    def asked(*_: object) -> None:
        raise StateError("the database does not answer")

    monkeypatch.setattr(Fleet, "runs", runs)
    monkeypatch.setattr(type(world.state), "asked", asked)
    shown = command_line(world, "runs")
    assert (shown.code, "under way" in shown.out) == (0, True)
