"""`fleet deliver --watch`: each host gets its system when it is back, and none waits for another."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import pytest

from fleet.cli import deliver_watch
from fleet.cli.deliver_watch import DeliveryWatch
from fleet.deploy.stop import Stop
from fleet.errors import ConfigError, StateError
from fleet.library.delivering import Back
from fleet.model import Closure, HostName, RunId
from fleet.output import Display
from fleet.state import Delivery
from tests.unit.builders import NEW, host
from tests.waiting import becomes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from fleet import Fleet

A, B = HostName("a"), HostName("b")


class Work:
    """A planning, or a run that ends when it may."""

    contacted = frozenset[HostName]()
    untold: tuple[str, ...] = ()

    def __init__(self, end: asyncio.Event | None = None) -> None:
        self.end = end

    async def envelopes(self) -> AsyncIterator[Any]:
        if self.end is not None:
            await self.end.wait()
        nothing: tuple[object, ...] = ()
        for event in nothing:
            yield event

    def __await__(self) -> Any:
        return asyncio.sleep(0, self).__await__()

    unrecorded = ""
    exit_code = 0


class Fleeting:
    """A fleet whose hosts are away until they are `back`, and whose runs end when `ends` says so."""

    def __init__(self, *names: HostName, closure: Closure = NEW) -> None:
        self.waits = {name: delivery(name, closure) for name in names}
        self.back: set[HostName] = set()
        self.hangs: set[HostName] = set()
        """Hosts that take a connection and say nothing."""
        self.why_not = ""
        self.trouble = ""
        """Why nobody can tell for whom something waits."""
        self.ends = {name: asyncio.Event() for name in names}
        self.delivered: Counter[HostName] = Counter()
        self.looked: Counter[HostName] = Counter()
        self.gated: set[HostName] = set()
        self.signed: Counter[HostName] = Counter()
        self.trouble_with_parts = ""
        self.turns = 0
        """How often the watch has asked for whom something waits."""

    async def some_turns(self) -> None:
        """Return when the watch has had the time to do what it must not do."""
        before = self.turns
        await becomes(lambda: self.turns > before + 10)

    async def deliveries(self, *_: str) -> tuple[Delivery, ...]:
        self.turns += 1
        if self.trouble:
            raise StateError(self.trouble)
        return tuple(self.waits.values())

    async def those_back(self, deliveries: Sequence[Delivery]) -> dict[HostName, Back]:
        (one,) = deliveries
        self.looked[one.host] += 1
        if one.host in self.hangs:
            await asyncio.Event().wait()
        return {one.host: Back(one, self.why_not)} if one.host in self.back else {}

    def plan_delivery(self, deliveries: Sequence[Delivery], *, stop: Stop) -> Work:  # noqa: ARG002 - as `Fleet` has it
        self.delivered.update(one.host for one in deliveries)
        self.planned = [one.host for one in deliveries]
        return Work()

    def apply(self, _: object, *, stop: Stop) -> Work:  # noqa: ARG002
        return Work(self.ends[self.planned[0]])

    async def signed_parts(self, deliveries: Sequence[Delivery]) -> list[list[HostName]]:
        if self.trouble_with_parts:
            raise ConfigError(self.trouble_with_parts)
        return [[one.host for one in deliveries if one.host in self.gated]]

    def deliver(self, parts: list[HostName], *, stop: Stop) -> Work:  # noqa: ARG002
        self.signed.update(parts)
        return Work(self.ends[parts[0]])


def delivery(name: HostName, closure: Closure) -> Delivery:
    return Delivery(
        host=name, closure=closure, derivation=None, run=RunId("r"), by="ann", intent="", made=0, expires=9e9, first=0,
        missed=1,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver_watch, "INTERVAL", 0.001)


@contextlib.asynccontextmanager
async def watching(fleet: Fleeting) -> AsyncIterator[list[str]]:
    """Somebody watches, while inside. Yields what people are told."""

    @contextlib.contextmanager
    def display() -> Iterator[Display]:
        yield Display()

    stop, told = Stop(), list[str]()
    hosts = [host(name, gate=name in fleet.gated) for name in fleet.waits]
    task = asyncio.create_task(DeliveryWatch(cast("Fleet", fleet), hosts, stop, display, told.append).go_on())
    try:
        yield told
    finally:
        stop.request()
        for end in fleet.ends.values():
            end.set()
        await task


async def test_a_host_that_is_back_gets_its_system_while_another_one_still_switches() -> None:
    fleet = Fleeting(A, B)
    async with watching(fleet):
        fleet.back = {A}
        await becomes(lambda: fleet.delivered[A])
        fleet.back = {A, B}
        await becomes(lambda: fleet.delivered[B])
        assert not fleet.ends[A].is_set()


async def test_a_host_with_a_gate_gets_its_signed_part_and_no_plan_is_made_for_it() -> None:
    fleet = Fleeting(A, B)
    fleet.gated = {A}
    async with watching(fleet):
        fleet.back = {A, B}
        fleet.ends[B].set()
        await becomes(lambda: fleet.delivered[B] and fleet.signed[A])
    assert (fleet.delivered, fleet.signed) == ({B: 1}, {A: 1})


async def test_signed_parts_that_cannot_be_had_end_no_watch() -> None:
    fleet = Fleeting(A)
    fleet.gated, fleet.trouble_with_parts = {A}, "it is no file of signatures"
    async with watching(fleet) as told:
        fleet.back = {A}
        await becomes(lambda: "fleet: it is no file of signatures" in told)
        fleet.trouble_with_parts = ""


async def test_a_host_that_takes_connections_and_says_nothing_keeps_no_other_one_waiting() -> None:
    fleet = Fleeting(A, B)
    fleet.hangs, fleet.back = {A}, {B}
    async with watching(fleet):
        await becomes(lambda: fleet.delivered[B])


async def test_nothing_is_delivered_twice_while_it_is_under_way_or_soon_after() -> None:
    fleet = Fleeting(A)
    fleet.back = {A}
    async with watching(fleet):
        await becomes(lambda: fleet.delivered[A])
        looked = fleet.looked[A]
        fleet.ends[A].set()
        await fleet.some_turns()
        assert (fleet.delivered[A], fleet.looked[A]) == (1, looked)


async def test_those_that_are_back_at_once_share_a_run() -> None:
    fleet = Fleeting(A, B)
    fleet.back = {A, B}
    async with watching(fleet):
        await becomes(lambda: fleet.delivered.total() == 2)
        assert set(fleet.planned) == {A, B}


async def test_what_forbids_a_delivery_is_told_once() -> None:
    fleet = Fleeting(A)
    fleet.back, fleet.why_not = {A}, "it runs on battery"
    async with watching(fleet) as told:
        await becomes(lambda: len(told) > 1)
        await fleet.some_turns()
        assert told == ["fleet: something waits for a", "a: is back, and it runs on battery"]
        assert not fleet.delivered


async def test_people_are_told_for_whom_something_waits() -> None:
    fleet = Fleeting(A, B)
    async with watching(fleet) as told:
        await becomes(lambda: told)
        del fleet.waits[B]
        await becomes(lambda: len(told) > 1)
        fleet.waits.clear()
        await becomes(lambda: len(told) > 2)
    assert told == [
        "fleet: something waits for a, b",
        "fleet: something waits for a",
        "fleet: nothing waits now",
    ]


async def test_a_disk_that_cannot_be_read_is_told_once_and_tried_again() -> None:
    fleet = Fleeting(A)
    fleet.trouble = "state.db: No space left on device"
    async with watching(fleet) as told:
        await becomes(lambda: told)
        await fleet.some_turns()
        assert told == ["fleet: state.db: No space left on device; tried again"]
        fleet.trouble = ""
        await becomes(lambda: len(told) > 1)


async def test_the_end_waits_for_runs_that_have_begun() -> None:
    fleet = Fleeting(A)
    fleet.back = {A}
    stop = Stop()

    @contextlib.contextmanager
    def display() -> Iterator[Display]:
        yield Display()

    watch = DeliveryWatch(cast("Fleet", fleet), [host(A)], stop, display, lambda _: None)
    task = asyncio.create_task(watch.go_on())
    await becomes(lambda: fleet.delivered[A])
    stop.request()
    await asyncio.sleep(0.05)
    assert not task.done()
    fleet.ends[A].set()
    await task
