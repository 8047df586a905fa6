"""A push by nix copy: what is told meanwhile, and what stops it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from fleet import nix
from fleet.errors import PushError
from fleet.events import FindingReported, HostFetched, OutputLine, PushFinished, PushProgressed
from fleet.host.program import HostProgram, bringing
from fleet.inventory import BuildOn
from fleet.machine import Bridge, Command, Output
from fleet.model import Derivation
from fleet.steps import push
from fleet.steps.deliver import WholePaths
from fleet.steps.load import Load
from fleet.steps.slow_link import SlowLinks
from fleet.store.send import Progress, Sender
from tests.fakes import Answers, Events, FakeMachine, Says, asks, in_no_time, runs, said
from tests.unit import builders
from tests.unit.builders import NEW, RUN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleet.machine import Stream
    from fleet.steps.deliver import Delivery, Transport
    from fleet.store.supply import Supply

PROGRAM = HostProgram("/nix/store/p-fleet-host")
DRV = Derivation("/nix/store/x.drv")
JOB = builders.job(load=Load(missing=(NEW,), missing_bytes=1000, wire_bytes=1000))


class Moving(FakeMachine):
    """A host whose bridge moves bytes for some seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__((asks("root"), said(done="yes")), (runs("true"), Output(status=0)))
        self.seconds = seconds

    @contextlib.asynccontextmanager
    async def bridge(self, command: Command) -> AsyncIterator[Bridge]:  # noqa: ARG002
        bridge = Bridge(Path("/run/fake/s"))

        async def move() -> None:
            clock = asyncio.get_running_loop().time
            end = clock() + self.seconds
            while clock() < end:
                await asyncio.sleep(1)
                bridge.sent += 100
                bridge.last_moved = clock()

        moving = asyncio.create_task(move())
        try:
            yield bridge
        finally:
            moving.cancel()
            await asyncio.gather(moving, return_exceptions=True)


def here(copied: Answers) -> FakeMachine:
    return FakeMachine((runs("nix"), copied), name="controller")


@in_no_time
async def test_progress_is_told_while_bytes_move() -> None:
    events = Events()
    await push.push(here(Says(seconds=10.5)), Moving(10), JOB, RUN, PROGRAM, emit=events)
    told = events.of(PushProgressed)
    assert [event.sent for event in told] == [100 * number for number in range(11)]
    assert {event.total for event in told} == {1000}
    assert events[-1] == PushFinished(
        host=JOB.host.name, paths=1, nar_bytes=1000, wire_bytes=1000, seconds=events[-1].seconds,  # type: ignore[attr-defined]
    )  # fmt: skip


@in_no_time
async def test_what_the_host_fetches_is_not_counted_as_pushed() -> None:
    other = "/nix/store/other"
    job = builders.job(load=Load(missing=(NEW, other), missing_bytes=1007, substitutes={other: 7}))
    for lost, paths, size in (("", 1, 1000), (f"{other}\n", 2, 1007)):
        machine, events = Moving(0), Events()
        machine.table += [
            (runs("xargs", "-r", "nix-store", "--realise"), Says(seconds=100)),
            (runs("xargs"), Output(status=0, stdout=lost)),
        ]
        await push.push(here(Output(status=0)), machine, job, RUN, PROGRAM, emit=events)
        (moved,) = events.of(PushFinished)
        assert (moved.paths, moved.nar_bytes) == (paths, size)
        assert moved.seconds < 50  # of the push alone
        kinds = [type(event) for event in events if isinstance(event, HostFetched | PushFinished)]
        assert kinds == [HostFetched, PushFinished]


@in_no_time
async def test_program_is_pushed_also_where_the_closure_is_there() -> None:
    machine = here(Output(status=0))
    await push.push(machine, Moving(0), builders.job(), RUN, PROGRAM, emit=Events())
    assert machine.ran == [nix.copy(Path("/run/fake/s"), ["/nix/store/p-fleet-host"])]


@in_no_time
async def test_push_that_stalls_is_given_up() -> None:
    started = asyncio.get_running_loop().time()
    with pytest.raises(PushError, match="the push stalled: no byte moved for 600 s"):
        await push.push(here(Says(seconds=10_000)), Moving(100), JOB, RUN, PROGRAM, emit=Events())
    assert 700 <= asyncio.get_running_loop().time() - started < 705


@in_no_time
async def test_long_push_that_moves_is_not_given_up() -> None:
    await push.push(here(Says(seconds=3000)), Moving(2900), JOB, RUN, PROGRAM, emit=Events())


@in_no_time
async def test_copy_that_fails_tells_what_both_ends_said() -> None:
    with pytest.raises(PushError, match="nix copy failed with exit status 1") as caught:
        await push.push(here(Output(status=1, stderr="error: x\n")), Moving(0), JOB, RUN, PROGRAM, emit=Events())
    assert caught.value.said == ("error: x",)
    assert "deploy again" in caught.value.hint


@in_no_time
async def test_host_that_wants_signatures_is_told_from_one_that_fails() -> None:
    says = Output(status=1, stderr="error: cannot add path '/nix/store/x' because it lacks a valid signature\n")
    with pytest.raises(PushError) as caught:
        await push.push(here(says), Moving(0), JOB, RUN, PROGRAM, emit=Events())
    assert "signing_key" in caught.value.hint


class Differences:
    """A way that asks the host first what it has."""

    argv = ("true",)
    verb = "receive"

    def sender(self, stream: Stream, supply: Supply, progress: Progress) -> Sender:
        return Sender(stream, supply, progress)

    def has_changed(self, ended: Output) -> bool:  # noqa: ARG002 - as `Transport` has it
        return False


class SlowLinksBy(SlowLinks):
    """What slow links share, where this is the transport to all hosts."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(builders.FakeSupply())
        self._only = transport

    async def transport(self, *_: object, **__: object) -> Transport:
        return self._only


@pytest.mark.parametrize(
    ("copier", "substitutes", "planned"),
    [
        (builders.FakeSupply(), {}, (NEW,)),
        (builders.FakeSupply(), {NEW: 7}, ()),
        (SlowLinksBy(WholePaths()), {}, (NEW,)),
        (SlowLinksBy(Differences()), {}, ()),
    ],
)
async def test_only_what_the_plan_knows_for_sure_is_sent_unasked(
    monkeypatch: pytest.MonkeyPatch, copier: Supply | SlowLinks, substitutes: dict[str, int], planned: tuple[str, ...]
) -> None:
    deliveries: list[Delivery] = []

    async def deliver(machine: object, supply: object, delivery: Delivery, progress: object) -> None:
        deliveries.append(delivery)

    monkeypatch.setattr(push, "deliver", deliver)
    machine = Moving(0)
    machine.table += [(runs("xargs"), Output(status=0))]
    job = builders.job(load=Load(missing=(NEW,), substitutes=substitutes))
    await push.push(here(Output(status=0)), machine, job, RUN, PROGRAM, engine=copier, emit=Events())
    (delivery,) = deliveries
    assert delivery.planned == planned
    assert delivery.wanted == (NEW, "/nix/store/p-fleet-host")


@pytest.mark.parametrize("is_not_served", [True, False])
async def test_nix_copy_pushes_to_a_host_that_does_not_serve_our_engine(
    monkeypatch: pytest.MonkeyPatch, *, is_not_served: bool
) -> None:
    async def deliver(*_: object) -> None:
        error = PushError(JOB.host.name, "the host's store refused: unrecognised flag '--serve'")
        error.is_not_served = is_not_served
        raise error

    monkeypatch.setattr(push, "deliver", deliver)
    events, copying = Events(), here(Output(status=0))
    pushing = push.push(copying, Moving(0), JOB, RUN, PROGRAM, engine=builders.FakeSupply(), emit=events)
    if is_not_served:
        await pushing
        (note,) = events.of(FindingReported)
        assert (note.kind, note.severity) == ("not_served", "note")
    else:
        with pytest.raises(PushError):
            await pushing
    assert len(copying.ran) == is_not_served


@in_no_time
async def test_build_on_the_host_is_told_line_by_line() -> None:
    events, machine = Events(), Moving(0)
    machine.table.append((runs("nix-store", "--realise"), Output(status=0, stderr="building\n")))
    job = builders.job(derivation=DRV, build_on=BuildOn.TARGET)
    copying = here(Output(status=0))
    await push.push(copying, machine, job, RUN, PROGRAM, emit=events)
    assert [event.text for event in events.of(OutputLine)] == ["building"]
    assert "--derivation" in copying.ran[0].argv
    assert "/nix/store/x.drv" in copying.ran[0].argv
    assert machine.ran[-1] == bringing(nix.build_on_host(DRV), RUN)


@in_no_time
async def test_derivation_of_what_was_built_here_is_not_pushed() -> None:
    copying = here(Output(status=0))
    job = builders.job(derivation=DRV, build_on=BuildOn.CONTROLLER, load=Load(missing=(NEW,)))
    await push.push(copying, Moving(0), job, RUN, PROGRAM, emit=Events())
    assert [path for command in copying.ran for path in (NEW, DRV) if path in command.argv] == [NEW]


def test_progress_is_what_has_reached_the_host_and_never_less() -> None:
    class Link:
        waiting = 80

    link, progress = Link(), Progress()
    progress.moved(100)
    assert progress.crossed == 100  # nothing is known of how it goes
    other = Progress()
    other.over(cast("Stream", link))
    other.moved(100)
    assert other.crossed == 20
    link.waiting = 90  # a question went along
    assert other.crossed == 20
    link.waiting = 0
    assert other.crossed == 100
