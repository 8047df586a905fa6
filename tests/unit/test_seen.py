"""What this machine remembers of hosts that do not answer: also what its own runs have made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.library.seen import LastSeen, remember, remember_ends, remembered
from fleet.model import HostName, HostResult, Outcome
from tests.unit.builders import NEW, OLD
from tests.unit.world import World

if TYPE_CHECKING:
    from pathlib import Path

A = HostName("a")
SEEN = LastSeen(at=100.0, running=OLD, generation="7", since=50, failed_units=("x.service",), nix_free=1 << 30)


async def after(world: World, outcome: Outcome) -> LastSeen | None:
    """What is remembered of a host that was seen, and on which a run has ended like this since."""
    await remember(world.state, world.inventory, {A: SEEN})
    ended = HostResult(host=A, outcome=outcome, closure=NEW, previous=OLD)
    await remember_ends(world.state, world.inventory, [ended], 200.0)
    return (await remembered(world.state)).get(A)


async def test_a_host_that_keeps_a_system_is_remembered_to_run_it(tmp_path: Path) -> None:
    seen = await after(World(tmp_path, "a"), Outcome.KEPT)
    assert seen is not None
    assert (seen.running, seen.at, seen.since, seen.generation, seen.nix_free) == (NEW, 200.0, 200, "", 1 << 30)


async def test_a_host_that_went_back_is_remembered_to_run_what_it_ran(tmp_path: Path) -> None:
    seen = await after(World(tmp_path, "a"), Outcome.ROLLED_BACK)
    assert seen is not None
    assert (seen.running, seen.at, seen.since, seen.generation) == (OLD, 200.0, 50, "7")


async def test_a_host_of_which_a_run_has_learned_nothing_is_remembered_as_it_was(tmp_path: Path) -> None:
    assert await after(World(tmp_path, "a"), Outcome.NEEDS_HUMAN) == SEEN


async def test_a_deployment_is_remembered_though_nobody_has_asked_for_the_status(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    assert await world.execute() == 0
    (seen,) = (await remembered(world.state)).values()
    assert seen.running == world.wanted
