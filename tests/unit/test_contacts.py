"""What looking at hosts costs them: connections, commands, and how long they stay connected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.deploy.look import KEPT_OPEN
from fleet.machine import CONTACTS, Output
from fleet.model import HostName, Outcome
from fleet.state import BaselineRecord
from tests.fakes import AtOnce, asks, runs, said
from tests.unit.builders import NEW, RUN
from tests.unit.world import FACTS, YES, World

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.machine import Command


def hosts(count: int) -> list[str]:
    return [f"h{number}" for number in range(count)]


def all_stand_there(world: World) -> None:
    """Every host is on the wanted closure."""
    world.wanted = NEW
    there = dict.fromkeys(("running", "profile", "boot_default"), NEW)
    for name in world.links:
        world.on(name, (asks("facts"), said(**{**FACTS, **there})))


def commands(world: World) -> list[int]:
    """How many commands each host has run."""
    return [len(link.ran) for link in world.links.values()]


@pytest.mark.parametrize("count", [3, KEPT_OPEN + 1])
async def test_unchanged_host_costs_one_connection_and_one_command(tmp_path: Path, count: int) -> None:
    world = World(tmp_path, *hosts(count))
    all_stand_there(world)
    assert await world.execute() == 0
    assert set(world.outcomes.values()) == {Outcome.UNCHANGED}
    assert (world.logins.connected, commands(world)) == (count, [1] * count)


async def test_switch_costs_two_logins_and_as_many_commands_as_there_is_to_say(tmp_path: Path) -> None:
    """Without a time to settle: one connection to act, one that was opened after the activation to prove."""
    world = World(tmp_path, "a")
    world.state.keep_baseline(HostName("a"), BaselineRecord(at=1.0, by="ann", body="{}"))
    end = said(accepted="yes", state="committed", running=str(world.closure))
    begun = said(begun=RUN, state="switched", running=str(world.closure), status=0)
    world.on("a", (asks("begin"), begun), (asks("word"), end))
    assert await world.execute() == 0
    assert set(world.outcomes.values()) == {Outcome.KEPT}
    link = world.links[HostName("a")]
    assert world.logins.connected == 2
    verbs = ("facts", "root", "begin", "look", "word", "watch")
    asked_for = [next((verb for verb in verbs if asks(verb)(command)), command.argv[0]) for command in link.ran]
    assert asked_for == [
        "facts",
        "xargs",
        "xargs",
        "root",
        "begin",
        "look",
        "word",
    ]  # xargs: is it there, is it in a cache


async def test_unchanged_host_is_left_before_others_are_built(tmp_path: Path) -> None:
    world = World(tmp_path, *hosts(2))
    all_stand_there(world)
    world.on("h1", (asks("facts"), said(**FACTS)))
    seen: list[int] = []

    def built(_: Command) -> Output:
        seen.append(world.logins.open)
        return YES

    world.here_too((runs("nix-store", "--realise"), built))
    await world.execute()
    assert seen == [1]


async def test_few_hosts_stay_connected_from_one_phase_to_the_next(tmp_path: Path) -> None:
    world = World(tmp_path, *hosts(3), verb="plan")
    await world.execute()
    assert (world.logins.connected, world.logins.most_open, world.logins.open) == (3, 3, 0)


async def test_many_hosts_are_connected_only_while_they_are_asked(tmp_path: Path) -> None:
    world = World(tmp_path, *hosts(KEPT_OPEN + 1), verb="plan")
    await world.execute()
    assert (world.logins.connected, world.logins.open) == (2 * (KEPT_OPEN + 1), 0)
    assert world.logins.most_open <= CONTACTS


async def test_many_hosts_are_asked_at_once_for_a_generation(tmp_path: Path) -> None:
    world = World(tmp_path, *hosts(KEPT_OPEN + 1), verb="rollback", back_to="1")
    world.answer = False
    at_once = AtOnce()
    for name, link in world.links.items():
        world.on(name, (runs("sh", "-c"), said(platform="x86_64-linux")))
        link.run = at_once.counting(asks("generations"), link.run)  # type: ignore[method-assign]
    await world.execute()
    assert set(world.outcomes.values()) == {Outcome.SKIPPED}
    assert at_once.most == CONTACTS
    assert (world.logins.connected, world.logins.open) == (3 * (KEPT_OPEN + 1), 0)
    assert world.logins.most_open <= CONTACTS
