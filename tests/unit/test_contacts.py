"""What looking at hosts costs them: connections, commands, and how long they stay connected."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from fleet.deploy.prepare import KEPT_OPEN
from fleet.machine import CONTACTS
from tests.fakes import AtOnce, FakeLink, asks, runs, said
from tests.unit.builders import NEW
from tests.unit.test_run import FACTS, SKIPPED, UNCHANGED, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fleet.inventory import Host


class Counting(World):
    """Hosts whose connections are counted."""

    def __init__(self, tmp_path: Path, count: int, **request: Any) -> None:
        super().__init__(tmp_path, *(f"h{number}" for number in range(count)), **request)
        self.connected = 0
        self.open = 0
        self.most_open = 0

    def all_stand_there(self) -> None:
        """Every host is on the wanted closure."""
        self.wanted = NEW
        there = dict.fromkeys(("running", "profile", "boot_default"), self.wanted)
        for name in self.links:
            self.on(name, (asks("facts"), said(**{**FACTS, **there})))

    @property
    def commands(self) -> list[int]:
        return [len(link.ran) for link in self.links.values()]

    @contextlib.asynccontextmanager
    async def connect(self, host: Host) -> AsyncIterator[FakeLink]:
        async with super().connect(host) as link:
            self.connected += 1
            self.open += 1
            self.most_open = max(self.open, self.most_open)
            yield link
            self.open -= 1


@pytest.mark.parametrize("count", [3, KEPT_OPEN + 1])
async def test_unchanged_host_costs_one_connection_and_one_command(tmp_path: Path, count: int) -> None:
    world = Counting(tmp_path, count)
    world.all_stand_there()
    assert await world.execute() == 0
    assert set(world.outcomes.values()) == {UNCHANGED}
    assert (world.connected, world.commands) == (count, [1] * count)


async def test_unchanged_host_is_left_before_others_are_built(tmp_path: Path) -> None:
    world = Counting(tmp_path, 2)
    world.all_stand_there()
    world.on("h1", (asks("facts"), said(**FACTS)))
    seen: list[int] = []
    realise = world.here.table[1][0]

    def built(_: object) -> Any:
        seen.append(world.open)
        return said()

    world.here_too((realise, built))
    await world.execute()
    assert seen == [1]


async def test_few_hosts_stay_connected_from_one_phase_to_the_next(tmp_path: Path) -> None:
    world = Counting(tmp_path, 3, verb="plan")
    await world.execute()
    assert (world.connected, world.most_open, world.open) == (3, 3, 0)


async def test_many_hosts_are_connected_only_while_they_are_asked(tmp_path: Path) -> None:
    world = Counting(tmp_path, KEPT_OPEN + 1, verb="plan")
    await world.execute()
    assert (world.connected, world.open) == (2 * (KEPT_OPEN + 1), 0)
    assert world.most_open <= CONTACTS


async def test_many_hosts_are_asked_at_once_for_a_generation(tmp_path: Path) -> None:
    world = Counting(tmp_path, KEPT_OPEN + 1, verb="rollback", back_to="1")
    world.answer = False
    at_once = AtOnce()
    for name, link in world.links.items():
        world.on(name, (runs("sh", "-c"), said()))
        link.run = at_once.counting(asks("generations"), link.run)  # type: ignore[method-assign]
    await world.execute()
    assert set(world.outcomes.values()) == {SKIPPED}
    assert at_once.most == CONTACTS
    assert (world.connected, world.open) == (3 * (KEPT_OPEN + 1), 0)
    assert world.most_open <= CONTACTS
