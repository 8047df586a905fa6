"""All hosts, in waves: who begins, who does not, and that each is accounted for."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest

from fleet.deploy import result
from fleet.deploy.rollout import Rollout
from fleet.events import HostFinished, PhaseStarted, WaveStarted
from fleet.host.program import HostProgram
from fleet.model import Failure, HostName, HostResult, Outcome, Phase
from tests.fakes import Events, in_no_time
from tests.unit import builders
from tests.unit.builders import outcomes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from fleet.deploy.host import HostRun
    from fleet.events import Event
    from fleet.machine.link import Link
    from fleet.steps.plan import HostPlan

KEPT, FAILED, BACK, HUMAN, SKIPPED = (
    Outcome.KEPT, Outcome.FAILED, Outcome.ROLLED_BACK, Outcome.NEEDS_HUMAN, Outcome.SKIPPED,
)  # fmt: skip


@dataclass
class Fleet:
    """Hosts whose runs end as they are told to, each after a second of switching, one after its push."""

    waves: tuple[tuple[str, ...], ...]
    ends: dict[str, Outcome | Exception] = field(default_factory=dict)
    at_once: int = 16
    max_failures: int = 0
    begun: list[str] = field(default_factory=list)
    more: str = ""
    switching: float = 1.0
    now: Counter[str] = field(default_factory=Counter)
    """How many hosts are at which part of their run."""
    most: Counter[str] = field(default_factory=Counter)
    events: Events = field(default_factory=Events)
    closed: list[str] = field(default_factory=list)
    """Hosts whose connection was closed, in order."""

    def rollout(self) -> Rollout:
        names = [name for wave in self.waves for name in wave]
        rollout = f"[rollout]\nat_once = {self.at_once}\nmax_failures = {self.max_failures}\n{self.more}\n"
        self.run = builders.run(self.events, inventory=builders.inventory(*names, more=rollout))
        plans = [[builders.plan(name) for name in wave] for wave in self.waves]
        links = cast("dict[HostName, Link]", {name: _FakeLink(self, name) for name in names})
        program = HostProgram("/nix/store/p/fleet-host")
        return Rollout(self.run, plans, links, program, host_run=self.host_run(_FakeRun))

    def host_run(self, kind: type[_FakeRun]) -> Callable[..., HostRun]:
        return lambda _run, plan, _link, _program: cast("HostRun", kind(self, plan))

    @contextlib.contextmanager
    def counting(self, part: str) -> Iterator[None]:
        """A host is at that part."""
        self.now[part] += 1
        self.most[part] = max(self.most[part], self.now[part])
        try:
            yield
        finally:
            self.now[part] -= 1

    async def roll_out(self) -> dict[str, Outcome]:
        rollout = self.rollout()
        await rollout.roll_out()
        return outcomes(rollout.results)


@dataclass
class _FakeLink:
    fleet: Fleet
    name: str

    async def close(self) -> None:
        self.fleet.closed.append(self.name)


@dataclass
class _FakeRun:
    fleet: Fleet
    plan: HostPlan
    begun: bool = False
    has_switched: bool = False

    async def deploy(self, switch_place: Callable[[], Awaitable[str | None]]) -> HostResult:
        name = self.plan.host.name
        self.fleet.begun.append(name)
        with self.fleet.counting("run"):
            with self.fleet.counting("push"):
                await asyncio.sleep(1)
            if (reason := await switch_place()) is not None:
                return result.skipped(name, reason)
            self.begun = True
            with self.fleet.counting("switch"):
                await asyncio.sleep(self.fleet.switching)
        end = self.fleet.ends.get(name, KEPT)
        if isinstance(end, Exception):
            raise end
        failure = None if end is KEPT else Failure(kind="x", message="x")
        return HostResult(host=name, outcome=end, failure=failure)


@in_no_time
async def test_waves_go_one_after_another() -> None:
    fleet = Fleet((("a",), ("b", "c")))
    assert await fleet.roll_out() == {"a": KEPT, "b": KEPT, "c": KEPT}
    started = fleet.events.of(WaveStarted)
    assert [(event.wave, event.waves, event.hosts) for event in started] == [(1, 2, ("a",)), (2, 2, ("b", "c"))]
    assert fleet.events.index(started[1]) > [event.host for event in fleet.events.of(HostFinished)].index("a")


@in_no_time
async def test_so_many_at_once_and_no_more() -> None:
    fleet = Fleet((tuple("abcdefg"),), at_once=3)
    await fleet.roll_out()
    assert fleet.most == {"run": 3, "push": 3, "switch": 3}


@in_no_time
async def test_few_are_pushed_to_while_many_switch() -> None:
    fleet = Fleet((tuple("abcdefg"),), more="push_at_once = 1", switching=3.0)
    await fleet.roll_out()
    assert fleet.most == {"run": 4, "push": 1, "switch": 3}


@in_no_time
async def test_many_are_pushed_to_while_few_switch() -> None:
    fleet = Fleet((tuple("abcdefg"),), at_once=1, more="push_at_once = 5")
    await fleet.roll_out()
    assert (fleet.most["push"], fleet.most["switch"]) == (5, 1)
    waited = [event.host for event in fleet.events.of(PhaseStarted) if event.phase is Phase.WAITING]
    assert len(waited) == 6


@in_no_time
async def test_host_that_waits_to_switch_has_not_begun_when_others_end_badly() -> None:
    fleet = Fleet((tuple("abc"),), dict.fromkeys("abc", BACK), at_once=1, more="push_at_once = 3")
    assert sorted((await fleet.roll_out()).values()) == [BACK, SKIPPED, SKIPPED]
    assert fleet.begun == ["a", "b", "c"]


@in_no_time
async def test_every_place_is_given_back() -> None:
    fleet = Fleet(
        (tuple("abcdef"),), {"b": ZeroDivisionError("oops")}, at_once=1, max_failures=9, more="push_at_once = 2"
    )
    found = await fleet.roll_out()
    assert found == {"a": KEPT, "b": HUMAN, "c": KEPT, "d": KEPT, "e": KEPT, "f": KEPT}


@pytest.mark.parametrize("outcome", [FAILED, BACK, HUMAN])
def test_too_many_bad_outcomes_stop_the_next_wave(outcome: Outcome) -> None:
    @in_no_time
    async def test() -> None:
        fleet = Fleet((("a", "b"), ("c",), ("d",)), {"a": outcome})
        assert await fleet.roll_out() == {"a": outcome, "b": KEPT, "c": SKIPPED, "d": SKIPPED}
        assert fleet.begun == ["a", "b"]
        assert [event.wave for event in fleet.events.of(WaveStarted)] == [1]

    test()


@in_no_time
async def test_too_many_bad_outcomes_stop_the_rest_of_a_wave() -> None:
    fleet = Fleet((tuple("abcd"),), {"b": BACK}, at_once=1)
    assert await fleet.roll_out() == {"a": KEPT, "b": BACK, "c": SKIPPED, "d": SKIPPED}


@in_no_time
async def test_host_that_began_goes_to_its_end() -> None:
    fleet = Fleet((tuple("abc"),), {"a": BACK}, at_once=3)
    assert await fleet.roll_out() == {"a": BACK, "b": KEPT, "c": KEPT}


@in_no_time
async def test_as_many_bad_outcomes_as_allowed_stop_nothing() -> None:
    fleet = Fleet((("a",), ("b",), ("c",), ("d",)), {"a": BACK, "b": FAILED, "c": HUMAN}, max_failures=2)
    assert await fleet.roll_out() == {"a": BACK, "b": FAILED, "c": HUMAN, "d": SKIPPED}


@in_no_time
async def test_hosts_that_were_left_out_before_do_not_count() -> None:
    fleet = Fleet((("a",), ("b",)))
    rollout = fleet.rollout()
    other = HostResult(host=builders.host("x").name, outcome=FAILED)
    rollout.results[other.host] = other
    await rollout.roll_out()
    assert outcomes(rollout.results) == {"x": FAILED, "a": KEPT, "b": KEPT}


@in_no_time
async def test_bug_on_one_host_does_not_cancel_the_others() -> None:
    fleet = Fleet((("a", "b", "c"),), {"b": ZeroDivisionError("oops")}, at_once=3)
    rollout = fleet.rollout()
    await rollout.roll_out()
    assert outcomes(rollout.results) == {"a": KEPT, "b": HUMAN, "c": KEPT}
    bug = next(one.failure for one in rollout.results.values() if one.host == "b")
    assert bug is not None
    assert (bug.kind, "in doubt" in bug.now) == ("bug", True)
    assert any("ZeroDivisionError: oops" in line for line in bug.said)


@pytest.mark.parametrize("where", ["close", "emit"])
def test_bug_around_one_host_is_told_when_the_others_have_ended(where: str) -> None:
    class Broken(_FakeRun):
        async def deploy(self, switch_place: Callable[[], Awaitable[str | None]]) -> HostResult:
            if self.plan.host.name == "a":
                self.begun = True
                raise ZeroDivisionError
            return await super().deploy(switch_place)

    @in_no_time
    async def test() -> None:
        fleet = Fleet((("a", "b"), ("c",)), max_failures=1)
        rollout = fleet.rollout()
        rollout.host_run = fleet.host_run(Broken)
        if where == "close":
            rollout.links[HostName("a")].close = broken  # type: ignore[method-assign]
        else:
            object.__setattr__(fleet.run, "emit", deaf_to(HostName("a"), fleet.events))
        with pytest.raises(LookupError):
            await rollout.roll_out()
        assert outcomes(rollout.results) == {"a": HUMAN, "b": KEPT, "c": SKIPPED}

    test()


async def broken() -> None:
    raise LookupError


def deaf_to(host: HostName, events: Events) -> Callable[[Event], None]:
    """An `Emit` that cannot tell the end of a host."""

    def emit(event: Event) -> None:
        if isinstance(event, HostFinished) and event.host == host:
            raise LookupError
        events(event)

    return emit


@in_no_time
async def test_bug_before_the_switch_leaves_the_host_as_it_was() -> None:
    fleet = Fleet((("a",),))
    rollout = fleet.rollout()

    class Broken(_FakeRun):
        async def deploy(self, switch_place: Callable[[], Awaitable[str | None]]) -> HostResult:  # noqa: ARG002
            raise ZeroDivisionError

    rollout.host_run = fleet.host_run(Broken)
    await rollout.roll_out()
    assert outcomes(rollout.results) == {"a": FAILED}


@in_no_time
async def test_interrupt_begins_nothing_new_and_ends_pushes() -> None:
    fleet = Fleet((tuple("abcd"), ("e",)), at_once=2)
    rollout = fleet.rollout()
    task = asyncio.create_task(rollout.roll_out())
    await asyncio.sleep(1.5)  # two of them switch
    fleet.run.interrupt.asked = True
    rollout.end_early()
    await task
    assert outcomes(rollout.results) == {"a": KEPT, "b": KEPT, "c": SKIPPED, "d": SKIPPED, "e": SKIPPED}


@in_no_time
async def test_interrupt_during_a_push_skips_the_host() -> None:
    fleet = Fleet((("a", "b"),))
    rollout = fleet.rollout()
    task = asyncio.create_task(rollout.roll_out())
    await asyncio.sleep(0.5)
    fleet.run.interrupt.asked = True
    rollout.end_early()
    await task
    assert outcomes(rollout.results) == {"a": SKIPPED, "b": SKIPPED}


@pytest.mark.parametrize(("seconds", "first"), [(0.5, SKIPPED), (1.5, HUMAN)])
def test_cancellation_accounts_for_every_host(seconds: float, first: Outcome) -> None:
    @in_no_time
    async def test() -> None:
        fleet = Fleet((("a", "b"), ("c",)), at_once=1)
        rollout = fleet.rollout()
        task = asyncio.create_task(rollout.roll_out())
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert outcomes(rollout.results) == {"a": first, "b": SKIPPED, "c": SKIPPED}
        assert [event.host for event in fleet.events.of(HostFinished)] == ["a", "b", "c"]

    test()


@in_no_time
async def test_connection_of_a_host_that_ended_is_closed_before_the_next_wave() -> None:
    fleet = Fleet((("a", "b"), ("c",)), {"b": RuntimeError("a bug")}, max_failures=1)
    await fleet.roll_out()
    assert [sorted(fleet.closed[:2]), fleet.closed[2:]] == [["a", "b"], ["c"]]
