"""Hosts of one fleet may be in different flakes: each flake is evaluated once, and nobody is blamed for another."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from fleet.deploy.evaluating import evaluated_groups
from fleet.host.program import Order
from fleet.library.describe import describe
from fleet.library.documents import whole_plan
from fleet.machine import Output
from fleet.model import HostName
from fleet.plans import OtherSource, Plan, Source, TextError
from tests.fakes import Events, FakeMachine, runs
from tests.unit import builders
from tests.unit.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.machine import Command, OnLine

HOME = Source(reference="/srv/home", revision="1f" * 20, is_clean=True)
GPUS = Source(reference="github:ann/gpus")
NO = Output(status=1, stderr="error: cannot fetch\n")


def two_flakes(tmp_path: Path) -> World:
    """Two hosts of the fleet's flake, and one of another."""
    world = World(tmp_path, "a", "b", more='[hosts.far]\nflake = "github:ann/gpus"', verb="plan")
    world.wants["far"] = world.wanted
    return world


def evaluations(world: World) -> dict[str, str]:
    """What was evaluated of which flake."""
    commands = [command.argv for command in world.here.ran if "eval" in command.argv]
    return {argv[4]: argv[argv.index("--apply") + 1] for argv in commands}


async def test_each_flake_is_evaluated_once_with_its_own_hosts(tmp_path: Path) -> None:
    world = two_flakes(tmp_path)
    assert await world.execute() == 0
    asked = evaluations(world)
    ours, theirs = f"{tmp_path}#nixosConfigurations", "github:ann/gpus#nixosConfigurations"
    assert sorted(asked) == sorted([ours, theirs])
    assert ['"a" = ' in asked[ours], '"b" = ' in asked[ours], '"far" = ' in asked[ours]] == [True, True, False]
    assert ['"a" = ' in asked[theirs], '"far" = ' in asked[theirs]] == [False, True]


async def test_a_plan_names_the_source_of_each_host(tmp_path: Path) -> None:
    world = two_flakes(tmp_path)
    async with world.fleet() as fleet:
        plan = await fleet.plan_as(world.hosts, world.options)
        few = await fleet.plan_as([host for host in world.hosts if host.name == "a"], world.options)
    assert plan.source_of(HostName("a")).reference == str(tmp_path)
    assert plan.source_of(HostName("far")).reference == "github:ann/gpus"
    assert few.other_sources == ()


async def test_flakes_are_evaluated_beside_each_other_and_one_that_fails_fails_alone() -> None:
    hosts = builders.inventory("a", "b", "c").hosts
    groups = {"/one": [hosts[HostName("a")]], "/bad": [hosts[HostName("b")], hosts[HostName("c")]]}
    both = asyncio.Barrier(2)

    async def met() -> None:
        await asyncio.wait_for(both.wait(), 10)

    class Beside(FakeMachine):
        async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:  # noqa: ARG002 - as its base
            if len(self.ran) < 2:
                self.ran.append(command)
                await met()
            return answer(command)

    def answer(command: Command) -> Output:
        if "/bad#nixosConfigurations" in command.argv:
            return NO
        found = {"a": {"drv": f"/nix/store/{'d' * 32}-a.drv", "out": f"/nix/store/{'d' * 32}-a"}}
        return Output(status=0, stdout=json.dumps(found))

    known = await evaluated_groups(Beside(), groups, cache=None, emit=Events())
    assert sorted(known.found) == ["a"]
    assert sorted(known.failed) == ["b", "c"]


async def test_a_flake_that_fails_as_a_whole_is_the_error_of_its_hosts_alone() -> None:
    hosts = builders.inventory("a", "b", "c").hosts
    groups = {"/one": [hosts[HostName("a")]], "/bad": [hosts[HostName("b")], hosts[HostName("c")]]}

    def answer(command: Command) -> Output:
        asked = [name for name in "abc" if f'"{name}" = ' in str(command)]
        if len(asked) > 1:  # Nix fails for both together, and for none alone
            return NO
        found = {name: {"drv": f"/nix/store/{'d' * 32}-a.drv", "out": f"/nix/store/{'d' * 32}-a"} for name in asked}
        return Output(status=0, stdout=json.dumps(found))

    known = await evaluated_groups(FakeMachine((runs("nix"), answer)), groups, cache=None, emit=Events())
    assert (sorted(known.found), sorted(known.failed)) == (["a"], ["b", "c"])
    assert known.failed[HostName("b")].said == ("error: cannot fetch",)


def test_a_plan_of_several_sources_is_read_back_and_an_old_one_is_as_before() -> None:
    old = builders.plan(("web-1", "gpu-1"), source=HOME)
    made = dataclasses.replace(old, other_sources=(OtherSource(hosts=(HostName("gpu-1"),), source=GPUS),))
    assert "other_source" not in old.text
    assert "other_source gpu-1 github:ann/gpus rev - dirty\n" in made.head
    assert Plan.parse(made.text) == made
    assert [Order(run=builders.RUN, part=made.parts[name], by="a", origin="b", plan=made).text().count("gpus")
            for name in made.hosts] == [0, 1]  # fmt: skip
    assert whole_plan(made)["other_sources"] == [
        {"hosts": ["gpu-1"], "reference": "github:ann/gpus", "revision": "", "is_clean": False}
    ]
    lines = describe(made, now=0)
    at = next(number for number, line in enumerate(lines) if line.startswith("source:"))
    assert lines[at + 1] == "         github:ann/gpus, for gpu-1"
    with pytest.raises(TextError, match="other_source"):
        Plan.parse(made.text.replace("other_source gpu-1 ", "other_source gpu/1 "))
