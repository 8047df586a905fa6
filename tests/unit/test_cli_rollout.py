"""`fleet rollout` and what `fleet runs` tells of rollouts: which run is meant, and what can be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.errors import INTERRUPTED
from fleet.events import Envelopes, HostFinished, PhaseStarted, RunFinished, RunStarted
from fleet.model import Goal, HostName, HostResult, Outcome, Phase, RunId, Verb
from fleet.state import Asked
from tests.unit.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.events import Event
    from tests.unit.conftest import CommandLine

A, B = HostName("a"), HostName("b")


pytestmark = pytest.mark.usefixtures("kept")


def remember(world: World, run: str, *events: Event, verb: Verb = Verb.DEPLOY, plan: str | None = None) -> None:
    """This machine remembers a run of both hosts, of which this is known."""
    envelopes = Envelopes(RunId(run), "ann")
    with world.state.hold(RunId(run)), world.state.recorder(RunId(run), plan=plan) as recorder:
        for event in (RunStarted(run=RunId(run), verb=verb, goal=Goal.SWITCH, hosts=(A, B)), *events):
            recorder.record(envelopes.wrap(event))


def kept(host: HostName) -> HostFinished:
    return HostFinished(host=host, result=HostResult(host=host, outcome=Outcome.KEPT))


def over(run: str, code: int) -> RunFinished:
    return RunFinished(run=RunId(run), exit_code=code, error=None, hosts=())


def row(world: World, command_line: CommandLine, run: str) -> list[str]:
    """What `fleet runs` tells of a run, from the third column on."""
    (line,) = [line for line in command_line(world, "runs").out.splitlines() if line.startswith(run)]
    return line.split(maxsplit=2)[2].split("  ")


def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    remember(world, "20261120T042211-3fa9c1d2")
    with world.state.hold(RunId("20261120T042211-3fa9c1d2")):
        assert command_line(world, "rollout", "pause", "20261120").code == 0
    request = world.state.asked(RunId("20261120T042211-3fa9c1d2"))
    assert request is not None
    assert request.asked is Asked.PAUSE


def test_a_beginning_that_two_runs_share_is_refused(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    remember(world, "20261120T042211-3fa9c1d2")
    remember(world, "20261120T042212-3fa9c2")
    told = command_line(world, "rollout", "continue", "20261120")
    assert (told.code, "2 runs begin with 20261120" in told.err) == (2, True)


def test_a_rollout_that_was_interrupted_is_named_and_not_begun_again_unasked(
    tmp_path: Path, command_line: CommandLine
) -> None:
    world = World(tmp_path, "a", "b")
    remember(world, "r1", kept(A), over("r1", INTERRUPTED))
    told = command_line(world, "rollout", "continue")
    assert (told.code, "fleet rollout continue r1 goes on with it" in told.err) == (2, True)
    assert not any(link.ran for link in world.links.values())
    assert "goes on with it" not in command_line(world, "rollout", "pause").err


def test_nobody_is_told_that_a_rollout_goes_on_which_nothing_has_stopped(
    tmp_path: Path, command_line: CommandLine
) -> None:
    world = World(tmp_path, "a", "b")
    remember(world, "r1")
    with world.state.hold(RunId("r1")):
        assert "is under way, and nobody has paused it" in command_line(world, "rollout", "continue").err
        command_line(world, "rollout", "pause")
        assert "goes on in the process that runs it" in command_line(world, "rollout", "continue").err


def test_runs_tells_that_a_rollout_is_paused_and_whom_it_has_begun(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    remember(world, "r1", PhaseStarted(host=A, phase=Phase.SWITCH), plan="d" * 64)
    with world.state.hold(RunId("r1")):
        assert row(world, command_line, "r1") == ["under way", "1 under way, 1 waiting"]
        command_line(world, "rollout", "pause")
        assert row(world, command_line, "r1")[0].startswith("under way: pause asked by ")
    assert row(world, command_line, "r1") == [
        "open: fleet resume, or fleet rollout continue",
        "1 unknown, 1 not begun",
    ]


def test_runs_tells_how_a_rollout_that_was_cut_short_goes_on(tmp_path: Path, command_line: CommandLine) -> None:
    world = World(tmp_path, "a", "b")
    remember(world, "r1", kept(A), plan="d" * 64)
    remember(world, "r2")
    assert row(world, command_line, "r1")[0] == "cut short: fleet rollout continue"
    assert row(world, command_line, "r2")[0] == "cut short"
