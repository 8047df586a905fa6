"""Who is back, of the hosts that something waits for: told soon, and by each host for itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleet.library import delivering
from fleet.model import HostName, RunId
from fleet.state import Delivery
from tests.fakes import asks, runs, said
from tests.unit.builders import NEW
from tests.unit.world import World

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from fleet.library.delivering import Back

A, B = HostName("a"), HostName("b")


def delivery(name: HostName) -> Delivery:
    return Delivery(
        host=name, closure=NEW, derivation=None, run=RunId("20261120T000001-000000"), by="ann", intent="", made=0,
        expires=9e9, first=0, missed=1,
    )  # fmt: skip


async def back(world: World, *names: HostName) -> dict[HostName, Back]:
    async with world.fleet() as fleet:
        return await fleet.those_back([delivery(name) for name in names])


async def test_a_host_that_lets_packets_vanish_is_away_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "ANSWER", 0.01)
    world = World(tmp_path, "a", "b")

    world.links[A].answers_at = float("inf")
    async with asyncio.timeout(5):
        assert set(await back(world, A, B)) == {B}


async def test_a_host_that_has_answered_may_take_longer_to_let_us_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "ANSWER", 0.01)
    world = World(tmp_path, "a")
    world.links[A].login_takes = 0.05
    assert set(await back(world, A)) == {A}


async def test_what_forbids_a_delivery_is_asked_of_the_host(tmp_path: Path) -> None:
    world = World(tmp_path, "a", more="[hosts.b]\nkind = 'laptop'")
    world.on("b", (runs("sh", "-c"), said(battery="yes")))
    found = await back(world, A, B)
    assert {name: one.why_not for name, one in found.items()} == {
        A: "",
        B: "it runs on battery (deliver_on_battery)",
    }


async def test_a_bug_at_one_host_keeps_no_other_one_waiting(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    world.on("a", (asks("facts"), RuntimeError("a bug")))
    assert set(await back(world, A, B)) == {B}
