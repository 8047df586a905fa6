"""Fleet as a library: what it exports, and what may be done with a fleet, in which order and how often."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import fleet as package
from fleet import nix
from fleet.deploy.options import Options
from fleet.deploy.stop import Stop
from fleet.errors import ConfigError, EvaluationError, StateError, StoppedError, UnreachableError
from fleet.events import HostPlanned, HostSwitched, PhaseStarted, PushProgressed, RunFinished, encode
from fleet.model import HostName, Outcome, Verb
from tests.fakes import Says, asks, runs, said
from tests.unit.builders import NEW, outcomes
from tests.unit.world import BROKEN, FACTS, YES, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleet import HostResult, Plan, Planning, PlanOptions, Run
    from fleet.events import Event
    from fleet.machine import Command, Output

A, B = HostName("a"), HostName("b")
KEPT, SKIPPED, HUMAN = Outcome.KEPT, Outcome.SKIPPED, Outcome.NEEDS_HUMAN
ASKED: PlanOptions = {"copy_with": "nix", "eval_cache": False}


# --- what is exported ------------------------------------------------------------------------------


def declared() -> dict[str, str]:
    """What a type checker takes from the package: each name, and the module that it is from."""
    (block,) = (
        node
        for node in ast.parse(inspect.getsource(package)).body
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    )
    imported = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imported for alias in node.names}


def test_exports_are_exact() -> None:
    assert sorted(declared()) == sorted(set(package.__all__) - {"__version__"})
    assert len(package.__all__) == len(set(package.__all__))
    assert dir(package) == sorted(package.__all__)


@pytest.mark.parametrize("name", sorted(declared()))
def test_export_is_what_type_checkers_take_it_for(name: str) -> None:
    assert getattr(package, name) is getattr(importlib.import_module(declared()[name]), name)


@pytest.mark.parametrize("name", sorted(declared()))
def test_export_says_what_it_is(name: str) -> None:
    exported = getattr(package, name)
    if inspect.isclass(exported) or inspect.isfunction(exported):
        assert exported.__doc__


def test_what_is_not_exported_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'fleet' has no attribute 'Rollout'"):
        getattr(package, "Rollout")  # noqa: B009 - that is what is tested


@pytest.mark.parametrize(
    "code",
    ["import fleet", "from fleet import Stop, Goal, StaleError", "import fleet; dir(fleet); fleet.__version__"],
)
def test_import_costs_nothing(code: str) -> None:
    heavy = ("asyncssh", "cryptography", "pydantic", "click", "rich")
    script = f"import sys; {code}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


# --- plan and apply --------------------------------------------------------------------------------


async def followed(run: Run, act: dict[type[Event], Any] | None = None) -> list[Event]:
    """All events of a run; something is done at the first event of a kind."""
    left, seen = dict(act or {}), []
    async for event in run:
        seen.append(event)
        if todo := left.pop(type(event), None):
            todo()
    return seen


def found(results: tuple[HostResult, ...]) -> dict[str, Outcome]:
    return outcomes({one.host: one for one in results})


async def test_plan_is_made_looked_at_and_applied(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    async with world.fleet() as fleet:
        planning = fleet.plan(**ASKED)
        events = [event async for event in planning]
        plan = await planning
        assert [one.host for one in events if isinstance(one, HostPlanned)] == ["a", "b"]
        assert (plan.hosts, plan.by, world.began()) == ((A, B), "ann", [])
        run = fleet.apply(plan)
        events = await followed(run)
        result = await run
    assert (result.run, result.exit_code, found(result.hosts)) == (run.id, 0, {"a": KEPT, "b": KEPT})
    assert (result.error, result.unrecorded, set(run.results)) == (None, "", set(result.hosts))
    assert (planning.run, isinstance(events[-1], RunFinished)) == (run.id, True)


async def test_plan_may_be_applied_though_nobody_follows(tmp_path: Path) -> None:
    async with World(tmp_path, "a").fleet() as fleet:
        assert (await fleet.apply(await fleet.plan(**ASKED))).exit_code == 0


async def test_plan_may_be_made_twice(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    async with world.fleet() as fleet:
        first, second = await fleet.plan(**ASKED), await fleet.plan(**ASKED)
        results = [await fleet.apply(plan) for plan in (first, second)]
    assert [found(one.hosts) for one in results] == [{"a": KEPT}, {"a": KEPT}]
    assert results[0].run != results[1].run
    assert world.logins.open == 0


async def test_plans_that_are_equal_are_two_runs(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    made: list[tuple[Planning, Plan]] = []
    async with world.fleet() as fleet:
        while len({plan.digest for _, plan in made}) == len(made):  # they are equal if they are of the same second
            planning = fleet.plan(**ASKED)
            made.append((planning, await planning))
        assert {fleet.apply(plan).id for _, plan in made} == {planning.run for planning, _ in made}


async def test_plan_that_was_made_to_look_at_is_applied_as_any_other(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    under_way: list[bool] = []
    async with world.fleet() as fleet:
        looked_at = Options(verb=Verb.PLAN, copy_with="nix", eval_cache=False)
        run = fleet.apply(await fleet.plan_as(fleet.select(), looked_at))
        await followed(run, {HostSwitched: lambda: under_way.append(world.state.is_under_way(run.id))})
    assert (under_way, [record.verb for record in world.state.runs()]) == ([True], ["deploy"])


async def test_plan_that_is_applied_twice_is_two_runs(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    async with world.fleet() as fleet:
        plan = await fleet.plan(**ASKED)
        first = await fleet.apply(plan)
        second = await fleet.apply(plan)
        runs = [record.id for record, _ in await fleet.runs()]
    assert runs == sorted([first.run, second.run], reverse=True)
    assert first.run != second.run


async def test_part_of_a_plan_is_applied_to_some_hosts(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", more="tags = ['x']")
    async with world.fleet() as fleet:
        result = await fleet.apply(await fleet.plan(**ASKED), "b")
    assert (found(result.hosts), world.began()) == ({"a": SKIPPED, "b": KEPT}, ["b"])
    failure = result.hosts[0].failure
    assert failure is not None
    assert failure.message == "the plan is applied to others only"


async def test_selector_that_means_no_host_of_the_plan_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    async with world.fleet() as fleet:
        plan = await fleet.plan("a", **ASKED)
        with pytest.raises(ConfigError, match="no host of the plan"):
            fleet.apply(plan, "b")
        with pytest.raises(ConfigError, match="nobody"):
            fleet.apply(plan, "nobody")
    assert world.began() == []


async def test_plan_that_is_declined_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    async with world.fleet() as fleet:
        run = fleet.decline(await fleet.plan(**ASKED), "too late in the day")
        result = await run
    assert (result.exit_code, found(result.hosts), world.began()) == (1, {"a": SKIPPED, "b": SKIPPED}, [])
    assert {one.failure.message for one in result.hosts if one.failure} == {"too late in the day"}
    assert [record.exit_code for record in world.state.runs()] == [1]


async def test_plan_that_nobody_applies_leaves_nothing_behind(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    async with world.fleet() as fleet:
        planning = fleet.plan(**ASKED)
        await planning
        assert world.state.is_under_way(planning.run)
    assert (world.logins.open, world.state.runs(), world.state.is_under_way(planning.run)) == (0, [], False)
    assert list((tmp_path / "state" / "runs").iterdir()) == []


async def test_run_that_ended_is_not_under_way_any_more(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    async with world.fleet() as fleet:
        result = await fleet.apply(await fleet.plan(**ASKED))
        assert [(record.id, is_under_way) for record, is_under_way in await fleet.runs()] == [(result.run, False)]
        assert world.logins.open == 0


async def test_events_of_a_run_that_ended_are_read_back(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    async with world.fleet() as fleet:
        run = fleet.apply(await fleet.plan(**ASKED))
        seen = [encode(told) async for told in run.envelopes() if not isinstance(told.event, PushProgressed)]
        await run
        read = await fleet.events(run.id)
        assert [encode(envelope) for envelope in read[-len(seen) :]] == seen
        assert await fleet.events(run.id, after=read[-2].seq) == read[-1:]
        assert await fleet.events("no-run") == []


async def test_plan_that_is_kept_is_remembered_with_its_roots(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    async with world.fleet() as fleet:
        plan = await fleet.plan(**ASKED)
        await fleet.keep(plan)
    assert [(one.digest, one.expires) for one in world.state.plans()] == [(plan.digest, plan.expires)]
    roots = world.state.plan_folder(plan.digest) / "closure"
    assert nix.realise([str(world.closure)], root=roots) in world.here.ran


async def test_what_hosts_build_themselves_is_kept_with_a_plan(tmp_path: Path) -> None:
    world = World(tmp_path, "a", more="build_on = 'target'")
    async with world.fleet() as fleet:
        plan = await fleet.plan(**ASKED)
        await fleet.keep(plan)
        derivation = plan.parts[A].derivation
    assert derivation is not None
    asked = [command for command in world.here.ran if command == nix.refer_to([derivation])]
    rooted = nix.realise(["/nix/store/f-fleet-plan"], root=world.state.plan_folder(plan.digest) / "closure")
    assert (len(asked), rooted in world.here.ran) == (1, True)


async def test_plan_whose_closures_cannot_be_rooted_is_not_said_to_be_kept(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    async with world.fleet() as fleet:
        plan = await fleet.plan(**ASKED)
        world.here_too((runs("nix-store", "--realise"), BROKEN))
        with pytest.raises(StateError, match="cannot be rooted"):
            await fleet.keep(plan)


async def test_plan_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.here_too((runs("nix"), BROKEN))
    async with world.fleet() as fleet:
        planning = fleet.plan(**ASKED)
        events = [event async for event in planning]
        with pytest.raises(EvaluationError):
            await planning
    assert (planning.exit_code, isinstance(events[-1], RunFinished), world.logins.open) == (3, True, 0)
    assert [record.exit_code for record in world.state.runs()] == [3]


async def test_planning_that_is_stopped_says_so(tmp_path: Path) -> None:
    world, stop = World(tmp_path, "a"), Stop()
    world.here_too((runs("nix"), Says(seconds=60)))
    async with world.fleet() as fleet:
        planning = fleet.plan(stop=stop, **ASKED)
        async for event in planning:
            if isinstance(event, PhaseStarted):
                stop.request()
        with pytest.raises(StoppedError):
            await planning
    assert (planning.exit_code, found(planning.results), world.logins.open) == (130, {"a": SKIPPED}, 0)


async def test_what_cannot_be_meant_is_refused_at_once(tmp_path: Path) -> None:
    fleet = World(tmp_path, "a").fleet()
    with pytest.raises(ConfigError):
        fleet.plan("nobody")
    with pytest.raises(ConfigError):
        fleet.plan(expires_in=0)


async def test_hosts_that_nothing_happens_to_are_in_the_result(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", "c")
    world.wants = {"a": NEW}
    world.on("a", (asks("facts"), said(**FACTS | dict.fromkeys(("running", "profile", "boot_default"), NEW))))
    world.links[B].is_lost = True
    async with world.fleet() as fleet:
        planning = fleet.plan(**ASKED)
        plan = await planning
        assert found(planning.results) == {"a": Outcome.UNCHANGED, "b": Outcome.FAILED}
        assert {one.host: one.outcome for one in plan.left_out} == {"a": "unchanged", "b": "failed"}
        result = await fleet.apply(plan)
    assert found(result.hosts) == {"a": Outcome.UNCHANGED, "b": Outcome.FAILED, "c": KEPT}


async def test_rollback_is_a_plan_too(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    looks = (lambda command: "readlink" in str(command), said(platform="x86_64-linux"))
    world.on("a", looks, (asks("look"), said(state="switched", running=NEW)))
    world.on("a", (runs("xargs"), YES))
    async with world.fleet() as fleet:
        plan = await fleet.plan_rollback(to="2", copy_with="nix")
        assert (plan.verb, plan.parts[A].closure, plan.parts[A].checks_decide) == (Verb.ROLLBACK, NEW, False)
        assert plan.parts[A].retry_quarantined
        assert found((await fleet.apply(plan)).hosts) == {"a": KEPT}


async def test_hosts_are_looked_at(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", "lost")
    world.links[HostName("lost")].is_lost = True
    async with world.fleet() as fleet:
        status = await fleet.status()
        assert [getattr(one, "running", None) for one in status.values()] == [FACTS["running"], FACTS["running"], None]
        assert isinstance(status[HostName("lost")], UnreachableError)
        health = (await fleet.health("a"))[A]
        generations = (await fleet.generations("b"))[B]
    assert getattr(health, "is_healthy", None) is True
    assert isinstance(generations, tuple)
    assert [one.number for one in generations] == [1, 2]
    assert world.logins.open == 0


async def test_run_that_was_lost_is_found_and_taken_up(tmp_path: Path) -> None:
    from tests.unit.test_cli_changing import begun

    world = World(tmp_path, "a")
    begun(world, "r", verb="deploy")
    async with world.fleet() as fleet:
        past = await fleet.open_run()
        assert past == await fleet.open_run("r")
        result = await fleet.resume(past)
        with pytest.raises(ConfigError, match="no run is open"):
            await fleet.open_run()
        with pytest.raises(ConfigError, match="there is no run x"):
            await fleet.open_run("x")
    assert (result.run, found(result.hosts)) == ("r", {"a": KEPT})


async def test_run_that_another_process_works_on_is_not_taken_up(tmp_path: Path) -> None:
    from tests.unit.test_cli_changing import begun

    world = World(tmp_path, "a")
    begun(world, "r", verb="deploy")
    past = world.state.runs()[0]
    async with world.fleet() as fleet:
        with world.state.hold(past.id):
            with pytest.raises(ConfigError, match="still under way"):
                await fleet.resume(past)
            with pytest.raises(ConfigError, match="but what is still under way in another process: r"):
                await fleet.open_run()


# --- several at once -------------------------------------------------------------------------------


async def deployed(world: World) -> dict[str, Outcome]:
    async with world.fleet() as fleet:
        return found((await fleet.apply(await fleet.plan(**ASKED))).hosts)


async def test_several_fleets_work_in_one_loop(tmp_path: Path) -> None:
    worlds = [World(tmp_path / name, "a", "b") for name in ("one", "two", "three")]
    assert await asyncio.gather(*map(deployed, worlds)) == [{"a": KEPT, "b": KEPT}] * 3


def test_fleets_work_in_any_threads_own_loop(tmp_path: Path) -> None:
    worlds = [World(tmp_path / name, "a", "b") for name in ("one", "two")]
    ended: dict[int, dict[str, Outcome]] = {}

    def work(number: int) -> None:
        ended[number] = asyncio.run(deployed(worlds[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == {0: {"a": KEPT, "b": KEPT}, 1: {"a": KEPT, "b": KEPT}}


async def test_one_fleet_plans_and_applies_several_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    async with world.fleet() as fleet:
        plans = await asyncio.gather(fleet.plan("a", **ASKED), fleet.plan("b", **ASKED))
        results = await asyncio.gather(*(fleet.apply(plan) for plan in plans))
    assert [found(one.hosts) for one in results] == [{"a": KEPT}, {"b": KEPT}]


async def test_run_is_stopped_from_another_thread(tmp_path: Path) -> None:
    world, stop = World(tmp_path, "a", "b", more="[rollout]\nat_once = 1"), Stop()
    async with world.fleet() as fleet:
        run = fleet.apply(await fleet.plan(**ASKED), stop=stop)
        await followed(run, {HostSwitched: threading.Thread(target=stop.request).start})
        result = await run
    assert (result.exit_code, found(result.hosts)) == (130, {"a": KEPT, "b": SKIPPED})


# --- leaving ---------------------------------------------------------------------------------------


def one_after_another(tmp_path: Path) -> World:
    return World(tmp_path, "a", "b", more="[rollout]\nat_once = 1")


@pytest.fixture
def left(tmp_path: Path) -> Iterator[World]:
    """Hosts that nothing holds open afterwards."""
    world = one_after_another(tmp_path)
    yield world
    assert world.logins.open == 0
    assert [record.id for record in world.state.runs() if world.state.is_under_way(record.id)] == []


async def test_run_goes_to_its_end_though_nobody_awaits_it(left: World) -> None:
    async with left.fleet() as fleet:
        run = fleet.apply(await fleet.plan(**ASKED))
    assert found((await run).hosts) == {"a": KEPT, "b": KEPT}


async def test_exception_that_leads_out_ends_the_run_in_good_order(left: World) -> None:
    runs: list[Run] = []

    async def leave() -> None:
        async with left.fleet() as fleet:
            runs.append(fleet.apply(await fleet.plan(**ASKED)))
            async for event in runs[0]:
                if isinstance(event, HostSwitched):
                    raise LookupError("something of the caller's own")  # noqa: TRY004

    with pytest.raises(LookupError):
        await leave()
    assert runs[0].is_done
    assert found((await runs[0]).hosts) == {"a": KEPT, "b": SKIPPED}


def once(act: Callable[[], object], answer: Output) -> Callable[[Command], Output]:
    """Answers, after something was done."""

    def answered(_: Command) -> Output:
        act()
        return answer

    return answered


class Leaving:
    """Somebody who follows a run and is cancelled."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.switched = asyncio.Event()
        self.task = asyncio.create_task(self.follow())

    async def follow(self) -> None:
        async with self.world.fleet() as fleet:
            self.run = fleet.apply(await fleet.plan(**ASKED))
            await followed(self.run, {HostSwitched: self.switched.set})

    async def ended(self) -> dict[str, Outcome]:
        with pytest.raises(asyncio.CancelledError):
            await self.task
        assert self.run.is_done
        return found((await self.run).hosts)


async def test_cancellation_ends_the_run_in_good_order(left: World) -> None:
    leaving = Leaving(left)
    await leaving.switched.wait()
    leaving.task.cancel()
    assert await leaving.ended() == {"a": KEPT, "b": SKIPPED}


async def test_cancellation_of_who_waits_for_the_end_ends_the_run_in_good_order(left: World) -> None:
    runs: list[Run] = []

    async def leave() -> None:
        async with left.fleet() as fleet:
            runs.append(fleet.apply(await fleet.plan(**ASKED)))

    leaving, following = asyncio.create_task(leave()), asyncio.Event()
    left.on("a", (asks("look"), once(following.set, said(state="switched", running=left.closure))))
    await following.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert found((await runs[0]).hosts) == {"a": KEPT, "b": SKIPPED}


async def test_cancellation_twice_leaves_the_run(left: World) -> None:
    left.on("a", (asks("look"), Says(seconds=60)))
    leaving = Leaving(left)
    await leaving.switched.wait()
    leaving.task.cancel()
    while not leaving.run.stop.is_requested:  # noqa: ASYNC110 - it is no event, but a flag
        await asyncio.sleep(0)
    leaving.task.cancel()
    assert await leaving.ended() == {"a": HUMAN, "b": SKIPPED}


async def leave_while_planning(world: World, plannings: list[Planning], error: Exception | None = None) -> None:
    """Leave a fleet whose hosts are being looked at."""
    async with world.fleet() as fleet:
        plannings.append(fleet.plan(**ASKED))
        async for event in plannings[0]:
            if isinstance(event, PhaseStarted):
                break
        if error is not None:
            raise error


async def test_plan_that_is_being_made_ends_when_its_fleet_is_left(left: World) -> None:
    left.here_too((runs("nix"), Says(seconds=60)))
    plannings: list[Planning] = []
    with pytest.raises(LookupError):
        await leave_while_planning(left, plannings, LookupError())
    assert plannings[0].is_done


async def test_plan_that_nobody_awaits_is_let_go_with_its_fleet(left: World) -> None:
    plannings: list[Planning] = []
    await leave_while_planning(left, plannings)
    assert plannings[0].is_done
    assert not left.state.is_under_way(plannings[0].run)
