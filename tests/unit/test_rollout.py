"""All hosts, in waves: who begins, who does not, and that each is accounted for."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from fleet.deploy.rollout import Rollout
from fleet.events import (
    HostFinished,
    PhaseStarted,
    RolloutAsked,
    SoakFinished,
    SoakStarted,
    WaveFinished,
    WaveStarted,
)
from fleet.host.program import HostProgram
from fleet.inventory import Hook
from fleet.machine import Output
from fleet.model import HostName, HostResult, Outcome, Phase
from fleet.plans import SoakOf
from fleet.state import Asked, Request
from tests.fakes import Answers, Events, FakeLink, FakeMachine, Fits, Says, asks, in_no_time, runs, said
from tests.unit import builders
from tests.unit.builders import NEW, OLD, RUN, outcomes

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.events import Event
    from fleet.machine import Command
    from fleet.model import HostName as Name

KEPT, FAILED, BACK, HUMAN, SKIPPED = (
    Outcome.KEPT, Outcome.FAILED, Outcome.ROLLED_BACK, Outcome.NEEDS_HUMAN, Outcome.SKIPPED,
)  # fmt: skip
SWITCHED = said(state="switched", running=NEW, status=0)
ENDS: dict[Outcome, dict[str, Answers]] = {
    KEPT: {"watch": [SWITCHED, said(state="committed", running=NEW)]},
    BACK: {"watch": said(state="reverted", running=OLD, blame="found", reason="x")},
    HUMAN: {"watch": said(state="stuck", running=NEW)},
    FAILED: {"begin": said(refused="quarantined", message="bad")},
}
"""What a host answers that ends so."""


@dataclass
class Fleet:
    """Hosts that end as they are told to: each is pushed to for a second, and switches for another."""

    waves: tuple[tuple[str, ...], ...]
    ends: dict[str, Outcome | Exception] = field(default_factory=dict)
    max_failures: int = 0
    at_once: int = 16
    push_at_once: int = 0
    switching: float = 1.0
    now: Counter[str] = field(default_factory=Counter)
    """How many hosts are at which part of their run."""
    most: Counter[str] = field(default_factory=Counter)
    pushed: list[str] = field(default_factory=list)
    events: Events = field(default_factory=Events)

    def __post_init__(self) -> None:
        names = [HostName(name) for wave in self.waves for name in wave]
        jobs = {name: builders.job(builders.host(name, settle="0s"), copy_with="nix") for name in names}
        self.links = {name: self._link(name) for name in names}
        here = FakeMachine((runs("nix"), Output(status=0)), name="controller")
        self.context = builders.context(self.events, here=here, links=self.links)
        plan = builders.plan(
            *self.waves, at_once=self.at_once, push_at_once=self.push_at_once, max_failures=self.max_failures
        )
        self.rollout = Rollout(self.context, plan, jobs, HostProgram("/nix/store/p/fleet-host"))

    def _link(self, name: Name) -> FakeLink:
        end = self.ends.get(name, KEPT)
        answers: dict[str, Answers] = {
            "root": said(done="yes"),
            "unroot": said(done="yes"),
            "begin": said(begun=RUN, state="switching"),
            "look": said(state="switched", running=NEW),
            "word": said(state="committing", accepted="yes"),
            "facts": said(running=OLD),
            **({"watch": end} if isinstance(end, Exception) else {**ENDS[KEPT], **ENDS[end]}),
        }
        table: list[tuple[Fits, Answers]] = [(asks(verb), answer) for verb, answer in answers.items()]
        link = FakeLink(builders.host(name), *table, (runs("journalctl"), Output(status=0)))
        link.run = self._counting(name, link.run)  # type: ignore[method-assign]
        return link

    def _counting(self, name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        """The same `run`, which takes a second for the push and another for the switch, and counts who is at it."""

        async def counted(command: Command, **options: Any) -> Output:
            part, seconds = ("push", 1.0) if asks("root")(command) else ("switch", self.switching)
            if part == "push":
                self.pushed.append(name)
            if part != "push" and not asks("begin")(command):
                return await run(command, **options)  # type: ignore[no-any-return]
            self.now[part] += 1
            self.most[part] = max(self.most[part], self.now[part])
            try:
                await asyncio.sleep(seconds)
                return await run(command, **options)  # type: ignore[no-any-return]
            finally:
                self.now[part] -= 1

        return counted

    @property
    def found(self) -> dict[str, Outcome]:
        """How the hosts have ended."""
        return outcomes(self.context.journal.results)

    async def roll_out(self) -> dict[str, Outcome]:
        await self.rollout.roll_out()
        return self.found


@in_no_time
async def test_waves_go_one_after_another() -> None:
    fleet = Fleet((("a",), ("b", "c")))
    assert await fleet.roll_out() == {"a": KEPT, "b": KEPT, "c": KEPT}
    started = fleet.events.of(WaveStarted)
    assert [(event.wave, event.waves, event.hosts) for event in started] == [(1, 2, ("a",)), (2, 2, ("b", "c"))]
    first = next(event for event in fleet.events.of(HostFinished) if event.host == "a")
    assert fleet.events.index(started[1]) > fleet.events.index(first)


@in_no_time
async def test_so_many_at_once_and_no_more() -> None:
    fleet = Fleet((tuple("abcdefg"),), at_once=3)
    await fleet.roll_out()
    assert fleet.most == {"push": 3, "switch": 3}


@in_no_time
async def test_few_are_pushed_to_while_many_switch() -> None:
    fleet = Fleet((tuple("abcdefg"),), push_at_once=1, switching=3.0)
    await fleet.roll_out()
    assert (fleet.most["push"], fleet.most["switch"] > 1) == (1, True)


@in_no_time
async def test_many_are_pushed_to_while_few_switch() -> None:
    fleet = Fleet((tuple("abcdefg"),), at_once=1, push_at_once=5)
    await fleet.roll_out()
    assert (fleet.most["push"], fleet.most["switch"]) == (5, 1)
    waited = [event.host for event in fleet.events.of(PhaseStarted) if event.phase is Phase.WAITING]
    assert len(waited) == 6


@in_no_time
async def test_host_that_waits_to_switch_has_not_begun_when_others_end_badly() -> None:
    fleet = Fleet((tuple("abc"),), dict.fromkeys("abc", BACK), at_once=1, push_at_once=3)
    assert sorted((await fleet.roll_out()).values()) == [BACK, SKIPPED, SKIPPED]
    assert fleet.pushed == ["a", "b", "c"]


@in_no_time
async def test_host_that_must_not_switch_any_more_is_left_as_it_was() -> None:
    fleet = Fleet((("a", "b"),), {"a": BACK}, at_once=1, push_at_once=2)
    await fleet.roll_out()
    failure = fleet.context.journal.results[HostName("b")].failure
    assert failure is not None
    assert failure.message == "not begun: 1 of the hosts before it ended badly (max_failures)"
    asked = [verb for command in fleet.links[HostName("b")].ran for verb in ("begin", "unroot") if asks(verb)(command)]
    assert asked == ["unroot"]


@in_no_time
async def test_every_place_is_given_back() -> None:
    fleet = Fleet((tuple("abcdef"),), {"b": ZeroDivisionError("oops")}, at_once=1, max_failures=9, push_at_once=2)
    assert await fleet.roll_out() == {"a": KEPT, "b": HUMAN, "c": KEPT, "d": KEPT, "e": KEPT, "f": KEPT}


@pytest.mark.parametrize("outcome", [FAILED, BACK, HUMAN])
def test_too_many_bad_outcomes_stop_the_next_wave(outcome: Outcome) -> None:
    @in_no_time
    async def test() -> None:
        fleet = Fleet((("a", "b"), ("c",), ("d",)), {"a": outcome})
        assert await fleet.roll_out() == {"a": outcome, "b": KEPT, "c": SKIPPED, "d": SKIPPED}
        assert fleet.pushed == ["a", "b"]
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
    fleet = Fleet((("a",), ("b", "x"), ("c",), ("d",)), {"a": BACK, "b": FAILED, "c": HUMAN}, max_failures=2)
    assert await fleet.roll_out() == {"a": BACK, "b": FAILED, "x": KEPT, "c": HUMAN, "d": SKIPPED}


@in_no_time
async def test_hosts_that_were_left_out_before_do_not_count() -> None:
    fleet = Fleet((("a",), ("b",)))
    fleet.context.journal.finish(HostResult(host=HostName("x"), outcome=FAILED))
    assert await fleet.roll_out() == {"x": FAILED, "a": KEPT, "b": KEPT}


@in_no_time
async def test_bug_on_one_host_does_not_cancel_the_others() -> None:
    fleet = Fleet((("a", "b", "c"),), {"b": ZeroDivisionError("oops")}, at_once=3)
    assert await fleet.roll_out() == {"a": KEPT, "b": HUMAN, "c": KEPT}
    bug = fleet.context.journal.results[HostName("b")].failure
    assert bug is not None
    assert (bug.kind, "in doubt" in bug.now) == ("bug", True)
    assert any("ZeroDivisionError: oops" in line for line in bug.said)


@pytest.mark.parametrize("where", ["close", "tell"])
def test_bug_around_one_host_is_told_when_the_others_have_ended(where: str) -> None:
    @in_no_time
    async def test() -> None:
        fleet = Fleet((("a", "b"), ("c",)), {"a": ZeroDivisionError("oops")}, max_failures=1)
        if where == "close":
            fleet.links[HostName("a")].close = broken  # type: ignore[method-assign]
        else:
            fleet.context.journal.listen(lambda envelope: deaf_to(HostName("a"), envelope.event))
        with pytest.raises(LookupError):
            await fleet.roll_out()
        assert fleet.found == {"a": HUMAN, "b": KEPT, "c": SKIPPED}

    test()


async def broken() -> None:
    raise LookupError


def deaf_to(host: HostName, event: Event) -> None:
    """Cannot be told the end of that host."""
    if isinstance(event, HostFinished) and event.host == host:
        raise LookupError


@in_no_time
async def test_bug_before_the_switch_leaves_the_host_as_it_was() -> None:
    fleet = Fleet((("a",),))
    link = fleet.links[HostName("a")]
    link.table = [(asks("root"), ZeroDivisionError("oops")), *link.table]
    assert await fleet.roll_out() == {"a": FAILED}


@in_no_time
async def test_interrupt_begins_nothing_new_and_ends_pushes() -> None:
    fleet = Fleet((tuple("abcd"), ("e",)), at_once=2)
    task = asyncio.create_task(fleet.roll_out())
    await asyncio.sleep(1.5)  # two of them switch
    fleet.context.stop.request()
    assert await task == {"a": KEPT, "b": KEPT, "c": SKIPPED, "d": SKIPPED, "e": SKIPPED}


@in_no_time
async def test_interrupt_during_a_push_skips_the_host() -> None:
    fleet = Fleet((("a", "b"),))
    task = asyncio.create_task(fleet.roll_out())
    await asyncio.sleep(0.5)
    fleet.context.stop.request()
    assert await task == {"a": SKIPPED, "b": SKIPPED}
    assert all(asks("unroot")(link.ran[-1]) for link in fleet.links.values())


@pytest.mark.parametrize(("seconds", "first"), [(0.5, SKIPPED), (1.5, HUMAN)])
def test_cancellation_accounts_for_every_host(seconds: float, first: Outcome) -> None:
    @in_no_time
    async def test() -> None:
        fleet = Fleet((("a", "b"), ("c",)), at_once=1)
        task = asyncio.create_task(fleet.roll_out())
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert fleet.found == {"a": first, "b": SKIPPED, "c": SKIPPED}
        assert [event.host for event in fleet.events.of(HostFinished)] == ["a", "b", "c"]

    test()


@in_no_time
async def test_connection_of_a_host_that_ended_is_closed_before_the_next_wave() -> None:
    fleet = Fleet((("a", "b"), ("c",)), {"b": ZeroDivisionError("a bug")}, max_failures=1)
    closed: list[int] = []

    def rooted(_: Command) -> Output:
        closed.extend(link.closed for link in fleet.links.values())
        return said(done="yes")

    link = fleet.links[HostName("c")]
    link.table = [(asks("root"), rooted), *link.table]
    await fleet.roll_out()
    assert closed == [1, 1, 0]


def asking(fleet: Fleet, *requests: tuple[float, Request | None]) -> None:
    """Let somebody ask for these, each from that second on."""
    started = 1000.0  # the clock of a fake loop begins there

    async def asked() -> Request | None:
        passed = asyncio.get_running_loop().time() - started
        return [request for since, request in ((0.0, None), *requests) if passed >= since][-1]

    fleet.rollout.context = dataclasses.replace(fleet.context, asked=asked)
    fleet.rollout.__post_init__()


def soaking(fleet: Fleet, *soaks: SoakOf) -> None:
    fleet.rollout.plan = dataclasses.replace(fleet.rollout.plan, soaks=soaks)
    for link in fleet.links.values():
        link.table.insert(0, (asks("facts"), said(running=NEW, profile=NEW, machine="x86_64", nix="/bin/nix-store")))


@in_no_time
async def test_wave_soaks_before_the_next_one_begins_and_tells_what_it_has_seen() -> None:
    fleet = Fleet((("a",), ("b",)))
    soaking(fleet, SoakOf(1, 1, 60.0))
    assert await fleet.roll_out() == {"a": KEPT, "b": KEPT}
    assert fleet.events.of(WaveStarted, WaveFinished, SoakStarted, SoakFinished) == [
        WaveStarted(wave=1, waves=2, hosts=(HostName("a"),)),
        WaveFinished(wave=1, waves=2, outcomes={"kept": 1}),
        SoakStarted(wave=1, hosts=(HostName("a"),), seconds=60.0),
        SoakFinished(wave=1, unwell={}),
        WaveStarted(wave=2, waves=2, hosts=(HostName("b"),)),
        WaveFinished(wave=2, waves=2, outcomes={"kept": 1}),
    ]


@in_no_time
async def test_soak_that_is_interrupted_is_not_over_for_whoever_goes_on() -> None:
    fleet = Fleet((("a",), ("b",)))
    soaking(fleet, SoakOf(1, 1, 600.0))
    asyncio.get_running_loop().call_later(60, fleet.context.stop.request)
    assert await fleet.roll_out() == {"a": KEPT, "b": SKIPPED}
    assert (fleet.events.of(SoakFinished), fleet.context.journal.record.soaked) == ([], frozenset())


@in_no_time
async def test_soak_that_another_process_has_seen_through_is_over() -> None:
    fleet = Fleet((("a",), ("b",)))
    soaking(fleet, SoakOf(1, 1, 600.0), SoakOf(2, 2, 600.0))
    fleet.rollout.soaked = frozenset({1, 2})
    assert await fleet.roll_out() == {"a": KEPT, "b": KEPT}
    assert fleet.events.of(SoakStarted) == []


@in_no_time
async def test_paused_rollout_begins_nobody_until_it_is_to_continue() -> None:
    fleet = Fleet((("a",), ("b",)))
    asking(fleet, (1.0, Request(Asked.PAUSE, "ann", 1.0)), (500.0, None))
    assert await fleet.roll_out() == {"a": KEPT, "b": KEPT}
    assert asyncio.get_running_loop().time() > 1500
    assert [(event.asked, event.who) for event in fleet.events.of(RolloutAsked)] == [("pause", "ann"), ("continue", "")]


@in_no_time
async def test_aborted_rollout_begins_nobody_any_more() -> None:
    fleet = Fleet((("a",), ("b",)))
    asking(fleet, (1.5, Request(Asked.ABORT, "ann", 1.0)))
    assert await fleet.roll_out() == {"a": KEPT, "b": SKIPPED}
    failure = fleet.context.journal.results[HostName("b")].failure
    assert failure is not None
    assert failure.message == "not begun: ann has aborted the rollout"


@in_no_time
async def test_host_whose_hook_took_long_does_not_begin_when_somebody_has_aborted_meanwhile() -> None:
    fleet = Fleet((("a",),))
    hook = Hook.model_validate({"when": "before_switch", "command": "drain", "timeout": "200s"})
    undo = Hook.model_validate({"when": "after_rollback", "command": "undrain", "timeout": "200s"})
    job = fleet.rollout.jobs[HostName("a")]
    host = job.host.model_copy(update={"hooks": (hook, undo)})
    fleet.rollout.jobs = {host.name: dataclasses.replace(job, host=host)}
    link = fleet.links[host.name]
    ran: list[str] = []

    def runs_hook(command: Command) -> Says:
        ran.append(command.argv[-1])
        return Says(seconds=100.0)

    link.table.insert(0, (runs("env"), runs_hook))
    asking(fleet, (30.0, Request(Asked.ABORT, "ann", 1.0)))
    assert await fleet.roll_out() == {"a": SKIPPED}
    assert (ran, [asks("begin")(one) for one in link.ran].count(True)) == (["drain", "undrain"], 0)
    assert fleet.context.journal.record.hosts[host.name].prepared
