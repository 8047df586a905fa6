"""Hooks: when each runs, and what its failure means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fleet.events import OutputLine, PhaseStarted
from fleet.machine import Output
from fleet.model import Outcome, Phase, Verb
from tests.fakes import FakeMachine, Says, asks, runs, said
from tests.unit.builders import OLD
from tests.unit.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.machine import Command

KEPT, FAILED, BACK = Outcome.KEPT, Outcome.FAILED, Outcome.ROLLED_BACK
MOMENTS = ("before_push", "before_switch", "after_commit", "after_rollback")


def toml(**more: str) -> str:
    """A hook on the host for each moment, and one before the first contact, with these keys instead."""
    hooks = [{"when": f"'{when}'", "command": f"'do {when}'"} for when in MOMENTS]
    hooks += [{"when": "'before_contact'", "command": "'do before_contact'", "on": "'controller'"}]
    lines = [f"{key} = {value}" for hook in hooks for key, value in ({"[[hosts.a.hooks]]": ""} | hook | more).items()]
    return "\n".join(line.removesuffix(" = ") for line in lines)


def world(tmp_path: Path, failing: str = "", *, more: str = "", **options: Any) -> World:
    """A host with those hooks, of which one may fail."""
    made = World(tmp_path, "a", more=toml(**({"may_fail": "true"} if more else {})), **options)
    for machine in (made.here, made.links[made.hosts[0].name]):
        machine.table.insert(0, (runs("env"), lambda command: _ran(command, failing)))
    return made


def _ran(command: Command, failing: str) -> Output:
    name = command.argv[-1].removeprefix("do ")
    return Output(status=3, stderr=f"no {name}\n") if name == failing else Output(status=0, stdout=f"did {name}\n")


def ran(made: World) -> list[str]:
    machines: list[FakeMachine] = [made.here, made.links[made.hosts[0].name]]
    return [one.argv[-1].removeprefix("do ") for machine in machines for one in machine.ran if one.argv[0] == "env"]


async def test_each_hook_runs_at_its_moment_and_is_told_what_it_is_about(tmp_path: Path) -> None:
    made = world(tmp_path)
    assert await made.execute() == 0
    assert ran(made) == ["before_contact", "before_push", "before_switch", "after_commit"]
    (last,) = [one for one in made.links[made.hosts[0].name].ran if one.argv[-1] == "do after_commit"]
    told = dict(word.split("=", 1) for word in last.argv if "=" in word)
    assert told == {
        "FLEET_HOST": "a",
        "FLEET_RUN": made.end.run,
        "FLEET_CLOSURE": made.wanted,
        "FLEET_PREVIOUS": OLD,
        "FLEET_OUTCOME": "kept",
    }
    (woke,) = [one for one in made.here.ran if one.argv[0] == "env"]
    assert (woke.argv[1:3], woke.root) == (("-C", str(tmp_path)), False)
    assert [line.text for line in made.events.of(OutputLine) if line.phase is Phase.COMMIT] == ["did after_commit"]


@pytest.mark.parametrize("when", ["before_contact", "before_push", "before_switch"])
async def test_hook_that_fails_before_the_switch_leaves_the_host_out(tmp_path: Path, when: str) -> None:
    made = world(tmp_path, when)
    assert await made.execute() == 1
    (ended,) = made.end.hosts
    assert ended.failure is not None
    assert (ended.outcome, ended.failure.kind, ended.failure.now) == (FAILED, "hook", "nothing was changed")
    assert f"do {when} ({when}, on the " in ended.failure.message
    assert f"failed with exit status 3: no {when}" in ended.failure.message
    assert made.began() == []
    assert ("after_rollback" in ran(made)) is (when == "before_switch")
    phases = [event.phase for event in made.events.of(PhaseStarted)]
    assert Phase.SWITCH not in phases


async def test_hook_that_fails_after_the_commit_is_no_success_and_takes_nothing_back(tmp_path: Path) -> None:
    made = world(tmp_path, "after_commit")
    assert await made.execute() == 1
    (ended,) = made.end.hosts
    assert ended.failure is not None
    assert (ended.outcome, ended.failure.kind, ended.failure.now) == (KEPT, "hook", f"keeps {made.wanted}")


@pytest.mark.parametrize("when", ["before_contact", "before_push", "before_switch", "after_commit"])
async def test_hook_that_may_fail_is_told(tmp_path: Path, when: str) -> None:
    made = world(tmp_path, when, more="may")
    assert await made.execute() == 0
    (ended,) = made.end.hosts
    assert (ended.outcome, ended.failure) == (KEPT, None)
    assert any("exit status 3" in note for note in ended.notes) or when == "before_contact"


async def test_host_that_went_back_runs_what_comes_after_that(tmp_path: Path) -> None:
    made = world(tmp_path)
    back = [said(state="switched", running=made.wanted, status=0), said(state="reverted", running=OLD, blame="found")]
    made.on("a", (asks("watch"), back), (asks("look"), said(state="switched", running=made.wanted, bad="x failed")))
    assert await made.execute() == 1
    assert made.outcomes == {"a": BACK}
    assert ran(made)[-1] == "after_rollback"


async def test_people_see_that_a_hook_runs_and_for_how_long_it_may(tmp_path: Path) -> None:
    made = world(tmp_path)
    assert await made.execute() == 0
    hooks = [line.text for line in made.events.of(OutputLine) if line.phase is Phase.HOOK]
    assert hooks == [f"hook do {when} runs on the host, for up to 60 s" for when in MOMENTS[:3]]
    phases = [event.phase for event in made.events.of(PhaseStarted)]
    assert [phases[at + 1] for at, phase in enumerate(phases[:-1]) if phase is Phase.HOOK] == [Phase.PUSH, Phase.SWITCH]


async def test_hook_that_was_killed_is_told_by_its_own_name(tmp_path: Path) -> None:
    made = world(tmp_path)
    made.links[made.hosts[0].name].table.insert(0, (runs("env"), Says(died_of="SIGKILL")))
    assert await made.execute() == 1
    (ended,) = made.end.hosts
    assert ended.failure is not None
    assert (
        ended.failure.message == "hook do before_push (before_push, on the host) was killed (SIGKILL); out of memory?"
    )


async def test_to_plan_runs_no_hook(tmp_path: Path) -> None:
    made = world(tmp_path, verb=Verb.PLAN)
    async with made.fleet() as fleet:
        plan = await fleet.plan_as(made.hosts, made.options)
    assert ran(made) == []
    assert [hook.when for hook in plan.parts[made.hosts[0].name].hooks] == [*MOMENTS, "before_contact"]
