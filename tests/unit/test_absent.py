"""Hosts with a gate that are away: people sign parts for what was seen of them last, and these alone are brought."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from fleet.deploy.options import Options
from fleet.errors import UnreachableError
from fleet.events import FindingReported
from fleet.library import factory
from fleet.library.judging import Plea
from fleet.library.signatures import add_signatures
from fleet.library.signed_parts import UNSIGNED
from fleet.machine import Output
from fleet.model import Closure, HostName, Outcome, RunId, Verb
from fleet.signing import PLAN, keygen
from fleet.steps import survey
from fleet.steps.system import look_here
from tests.fakes import asks, runs, said
from tests.tools import new_key
from tests.unit.builders import NEW
from tests.unit.world import ENTRY, FACTS, OLDER, World

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.plans import Plan
    from fleet.signing import Signature

A = HostName("a")
GATED = 'offline = "defer"\ngate = true\nuser = "fleet"\n'
THERE = FACTS | {"serial": "41-8f3a09c2", "link": "system-41-link@1795946000.1", "gate": "g"}


def world_of(tmp_path: Path, more: str = GATED) -> World:
    """The system is a store path, as plans that are read back have them."""
    world = World(tmp_path, "a", more=more)
    world.wanted = NEW
    world.here_too((runs("nix-store", "--query"), Output(status=0, stdout=f"{NEW}\n")))
    world.on("a", (asks("facts"), said(**THERE)), (runs("fleet-gate"), Output(status=0)))
    world.links[A].host_key = f"SHA256:{'A' * 43}"
    return world


@pytest.fixture(autouse=True)
def _system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are elsewhere. No two runs are of one second."""
    numbers = itertools.count(10)
    monkeypatch.setattr(factory, "new_run_id", lambda: RunId(f"20261120T0511{next(numbers)}-b7f230"))
    monkeypatch.setattr(survey, "look_here", lambda _: look_here(Closure(str(tmp_path / "system"))))


async def planned(world: World, **options: object) -> Plan:
    wanted = Options(verb=Verb.PLAN, copy_with="nix", eval_cache=False, **options)  # type: ignore[arg-type]
    async with world.fleet() as fleet:
        plan = await (planning := fleet.plan_as(world.hosts, wanted, stop=world.stop))
        async for event in planning:
            world.events(event)
        await fleet.keep(plan)
        return plan


async def seen_and_gone(world: World) -> None:
    """The host was there once, and is not any more."""
    async with world.fleet() as fleet:
        await fleet.status()
    world.links[A].is_lost = True


def signature(world: World, plan: Plan) -> Signature:
    return keygen.sign(plan.head, namespace=PLAN, key=new_key(world.file.parent / "key"))


async def deferred(world: World, plan: Plan) -> Signature:
    """The plan was applied while the host was away."""
    signed = signature(world, plan)
    async with world.fleet() as fleet:
        done = await fleet.apply(plan, plea=Plea(signatures=(signed,)))
        assert [one.outcome for one in done.hosts] == [Outcome.DEFERRED]
    return signed


async def test_part_names_system_serial_and_key_that_were_seen_last(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    await seen_and_gone(world)
    part = (await planned(world)).parts[A]
    assert (part.expected, part.serial, part.link) == (THERE["running"], THERE["serial"], THERE["link"])
    assert (part.host_key, part.closure) == (world.links[A].host_key, world.wanted)
    (found,) = [event for event in world.events.of(FindingReported) if event.kind == "away"]
    assert "with the serial 41-8f3a09c2" in found.message


@pytest.mark.parametrize("options", [{"all_or_nothing": True}, {"verb": Verb.DEPLOY}], ids=["or nothing", "deploy"])
async def test_others_get_no_part_for_what_they_were(tmp_path: Path, options: dict[str, object]) -> None:
    world = world_of(tmp_path)
    await seen_and_gone(world)
    wanted = {"verb": Verb.PLAN, "copy_with": "nix", "eval_cache": False} | options
    async with world.fleet() as fleet:
        assert (await fleet.plan_as(world.hosts, Options(**wanted))).parts == {}  # type: ignore[arg-type]


@pytest.mark.parametrize("more", ['offline = "defer"', 'gate = true\nuser = "fleet"'], ids=["no gate", "no laptop"])
async def test_hosts_that_may_have_another_part_later_get_none_now(tmp_path: Path, more: str) -> None:
    world = world_of(tmp_path, more)
    await seen_and_gone(world)
    assert (await planned(world)).parts == {}


async def test_nobody_plans_for_a_host_that_was_never_seen(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    world.links[A].is_lost = True
    (left,) = (await planned(world)).left_out
    assert (left.outcome, "was not seen from here since" in left.message) == (Outcome.DEFERRED, True)


async def test_nobody_plans_for_a_host_that_was_seen_amid_something(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    amid = {"open_run": "r", "open_state": "switched", "open_new": OLDER, "open_old": OLDER}
    world.on("a", (asks("facts"), said(**THERE | amid)))
    await seen_and_gone(world)
    assert (await planned(world)).parts == {}


async def test_host_that_stands_on_its_system_is_only_said_to_be_away(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    stands = dict.fromkeys(("running", "profile", "boot_default"), world.wanted)
    world.on("a", (asks("facts"), said(**THERE | stands)))
    await seen_and_gone(world)
    plan = await planned(world)
    assert (plan.parts, [left.outcome for left in plan.left_out]) == ({}, [Outcome.DEFERRED])


async def test_a_plan_remembers_whom_it_has_seen(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    await planned(world)
    world.links[A].is_lost = True
    assert (await planned(world)).parts[A].serial == THERE["serial"]


async def test_what_waits_is_the_signed_part_until_its_plan_expires(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    await seen_and_gone(world)
    plan = await planned(world, expires_in=3600)
    signed = await deferred(world, plan)
    async with world.fleet() as fleet:
        (waits,) = await fleet.deliveries()
        assert waits.expires == plan.expires
        (parts,) = await fleet.signed_parts([waits])
        assert (parts.plan, parts.hosts, parts.plea.signatures) == (plan, (A,), (signed,))
        world.links[A].is_lost = False
        assert (await fleet.those_back([waits]))[A].why_not == ""
        done = await fleet.deliver(parts)
        assert [one.outcome for one in done.hosts] == [Outcome.KEPT], done.hosts
        assert await fleet.deliveries() == ()
    (order,) = [command.stdin.decode() for command in world.links[A].ran if asks("begin")(command)]
    assert plan.parts[A].text in order


async def test_part_that_has_become_stale_waits_no_longer(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    await seen_and_gone(world)
    plan = await planned(world)
    await deferred(world, plan)
    world.links[A].is_lost = False
    world.on("a", (asks("facts"), said(**THERE | {"serial": "42-b"})), (asks("history"), said(history=[ENTRY])))
    async with world.fleet() as fleet:
        (parts,) = await fleet.signed_parts(await fleet.deliveries())
        (ended,) = (await fleet.deliver(parts)).hosts
        assert ended.failure is not None
        assert (ended.failure.kind, "bob" in str(ended.failure.said)) == ("stale", True)
        assert await fleet.deliveries() == ()
    assert world.began() == []


async def test_host_that_is_away_still_waits_for_as_many_as_before(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    await seen_and_gone(world)
    await deferred(world, await planned(world))
    async with world.fleet() as fleet:
        (parts,) = await fleet.signed_parts(await fleet.deliveries())
        await fleet.deliver(parts)
        assert [one.missed for one in await fleet.deliveries()] == [1]


async def test_a_plan_that_is_withdrawn_waits_for_nobody(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    await seen_and_gone(world)
    plan = await planned(world)
    await deferred(world, plan)
    async with world.fleet() as fleet:
        told = await fleet.withdraw(plan, on_wait=lambda _: None)
        assert isinstance(told[A], UnreachableError)
        assert await fleet.deliveries() == ()


async def test_host_whose_part_nobody_has_signed_is_back_and_left_alone(tmp_path: Path) -> None:
    """As where the run that it missed was none with a part for it."""
    world = world_of(tmp_path)
    world.links[A].is_lost = True
    async with world.fleet() as fleet:
        await fleet.apply(await fleet.plan_as(world.hosts, world.options))
        (waits,) = await fleet.deliveries()
        assert await fleet.signed_parts([waits]) == ()
        world.links[A].is_lost = False
        assert UNSIGNED in (await fleet.those_back([waits]))[A].why_not


async def test_what_a_run_leaves_on_a_host_is_known_when_the_next_plan_is_made(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    plan = await planned(world)
    assert plan.parts, plan.left_out
    after = THERE | {"serial": "42-new", "running": plan.parts[A].closure, "profile": plan.parts[A].closure}
    signed = signature(world, plan)
    async with world.fleet() as fleet:
        add_signatures(plan, fleet.signatures_file(plan), [signed])
        world.on("a", (asks("facts"), [said(**THERE), said(**after)]))
        done = await fleet.apply(plan, plea=Plea(signatures=(signed,)))
        assert [one.outcome for one in done.hosts] == [Outcome.KEPT]
        last = (await fleet.last_seen())[A].absent
    assert last is not None
    assert (last.facts.serial, last.facts.running) == ("42-new", Closure(world.wanted))
