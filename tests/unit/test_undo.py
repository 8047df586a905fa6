"""What goes back when a rollout has failed, and what does not."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

import pytest

from fleet.errors import EvaluationError
from fleet.events import PhaseStarted, UndoStarted
from fleet.library.rollouts import must_undo, undo
from fleet.model import Closure, Failure, FailureKind, HostName, HostResult, Outcome, Phase, RunId
from fleet.plans import Action
from fleet.state import Asked, Request
from tests.fakes import Events
from tests.unit import builders
from tests.unit.builders import NEW, OLD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Sequence

    from fleet.deploy.context import Context
    from fleet.events import Event
    from fleet.inventory import Inventory
    from fleet.library.factory import RunFactory
    from fleet.plans import Part, Plan

KEPT, BACK, FAILED = Outcome.KEPT, Outcome.ROLLED_BACK, Outcome.FAILED
A, B, C = HostName("a"), HostName("b"), HostName("c")


class Ways:
    """Makes one plan that goes back, and applies it."""

    def __init__(self, *parts: Part, ends: Sequence[HostResult] = (), left_out: Sequence[HostResult] = ()) -> None:
        self.back = builders.plan(tuple(part.host for part in parts), parts=parts)
        self.ends, self.results, self.run = tuple(ends), tuple(left_out), RunId("undo")
        self.error: Exception | None = None
        self.planned: list[str] = []
        self.applied: list[str] = []

    def plan(self, hosts: Sequence[Any], options: Any, _: object) -> Ways:
        assert options.is_undo
        self.planned = [host.name for host in hosts]
        return self

    def __await__(self) -> Generator[Any, None, Plan]:
        if self.error is not None:
            raise self.error
        return self.back
        yield

    def apply(self, _: Plan, hosts: Sequence[HostName], __: object, *, tells: bool) -> Going:
        assert not tells, "the run that is undone is told of, and that is enough"
        self.applied = list(hosts)
        return Going(tuple(end for end in self.ends if end.host in hosts))


class Going:
    """A run that has ended."""

    def __init__(self, results: tuple[HostResult, ...]) -> None:
        self.results = results

    async def __aiter__(self) -> AsyncIterator[Event]:
        for end in self.results:
            yield PhaseStarted(host=end.host, phase=Phase.SWITCH)

    async def settled(self) -> None:
        pass


def ended(name: HostName, outcome: Outcome, **changes: Any) -> HostResult:
    return HostResult(host=name, outcome=outcome, closure=NEW, previous=OLD, **changes)


def way_back(name: HostName, **changes: Any) -> Part:
    return builders.part(name, closure=OLD, expected=NEW, **changes)


def context(*results: HostResult, begun: Sequence[HostName] = (A, B, C)) -> tuple[Context, Events]:
    events = Events()
    made = builders.context(events, links={name: cast("Any", None) for name in (A, B, C)})
    for name in begun:
        made.journal.emit(PhaseStarted(host=name, phase=Phase.SWITCH))
    made.journal.finish(*results)
    return made, events


def outcomes(made: Context) -> dict[str, tuple[Outcome, str]]:
    return {
        name: (end.outcome, end.failure.kind.value if end.failure else "") for name, end in made.journal.results.items()
    }


FLEET = cast("Inventory", type("Fleet", (), {"hosts": {name: builders.host(name) for name in (A, B, C)}}))
PLAN = dataclasses.replace(builders.plan(("a", "b"), ("c",)), undo_on_failure=True)


async def go_back(made: Context, ways: Ways, plan: Plan = PLAN) -> dict[str, tuple[Outcome, str]]:
    await undo(cast("RunFactory", ways), FLEET, made, plan)
    return outcomes(made)


async def test_what_the_run_has_changed_goes_back_and_nothing_else() -> None:
    made, events = context(ended(A, KEPT), ended(B, BACK), ended(C, Outcome.UNCHANGED))
    assert must_undo(PLAN, made.journal)
    ways = Ways(way_back(A), ends=[HostResult(host=A, outcome=KEPT, closure=OLD, previous=NEW)])
    assert await go_back(made, ways) == {"a": (BACK, "undone"), "b": (BACK, ""), "c": (Outcome.UNCHANGED, "")}
    assert (ways.planned, ways.applied) == (["a"], ["a"])
    assert [event.hosts for event in events.of(UndoStarted)] == [(A,)]


async def test_host_that_the_plan_was_not_applied_to_is_no_hindrance() -> None:
    made, _ = context(ended(A, KEPT), ended(B, BACK))
    ways = Ways(way_back(A), ends=[HostResult(host=A, outcome=KEPT, closure=OLD)])
    assert (await go_back(made, ways))["a"] == (BACK, "undone")


@pytest.mark.parametrize(
    "changed", [{"expected": Closure("/nix/store/x-by-hand")}, {"closure": Closure("/nix/store/x-older")}]
)
async def test_host_that_somebody_has_changed_since_stays(changed: dict[str, Any]) -> None:
    made, _ = context(ended(A, KEPT), ended(B, BACK))
    ways = Ways(builders.part(A, **{"closure": OLD, "expected": NEW, **changed}))
    found = await go_back(made, ways)
    assert (found["a"], ways.applied) == ((KEPT, "skipped"), [])
    failure = made.journal.results[A].failure
    assert failure is not None
    assert "somebody has changed it since" in failure.message


async def test_host_that_another_process_has_taken_back_is_undone_already() -> None:
    made, _ = context(ended(A, KEPT), ended(B, BACK))
    ways = Ways(builders.part(A, closure=NEW, expected=OLD))
    assert ((await go_back(made, ways))["a"], ways.applied) == ((BACK, "undone"), [])


async def test_host_that_kept_it_in_an_earlier_run_stays() -> None:
    made, _ = context(ended(A, KEPT), ended(B, BACK), begun=(B,))
    ways = Ways()
    assert ((await go_back(made, ways))["a"], ways.planned) == ((KEPT, ""), [])
    committed = dataclasses.replace(
        PLAN, parts={**PLAN.parts, A: dataclasses.replace(PLAN.parts[A], action=Action.COMMIT)}
    )
    made, _ = context(ended(A, KEPT), ended(B, BACK))
    assert (await go_back(made, ways, committed))["a"] == (KEPT, "")


async def test_host_that_cannot_go_back_is_said_to_keep_what_it_should_not() -> None:
    away = Failure(kind=FailureKind.UNREACHABLE, message="no connection", now="nothing was changed")
    made, _ = context(ended(A, KEPT), ended(B, BACK))
    assert (await go_back(made, Ways(left_out=[ended(A, FAILED, failure=away)])))["a"] == (KEPT, "unreachable")
    failure = made.journal.results[A].failure
    assert failure is not None
    assert (failure.now, made.journal.results[A].is_good) == (f"keeps {NEW}", False)
    made, _ = context(ended(A, KEPT), ended(B, BACK))
    ways = Ways(way_back(A))
    ways.error = EvaluationError("no")
    assert (await go_back(made, ways))["a"] == (KEPT, "evaluation")


async def test_run_that_somebody_has_ended_undoes_nothing() -> None:
    made, _ = context(ended(A, KEPT), ended(B, BACK))
    ways = Ways(way_back(A))

    async def aborted() -> Request:
        return Request(Asked.ABORT, "ann", 1.0)

    assert (await go_back(dataclasses.replace(made, asked=aborted), ways))["a"] == (KEPT, "")
    made.stop.request()
    assert (await go_back(made, ways))["a"] == (KEPT, "")
    assert ways.planned == []
