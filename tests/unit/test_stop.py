"""The wish that a run ends: what it does to work that is under way, and who may have it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from fleet.deploy.stop import Stop
from fleet.errors import ConfigError, StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable


class Work:
    """Work that waits to be told to go on."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.was_cancelled = self.is_over = False

    async def __call__(self) -> str:
        self.begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            await asyncio.sleep(0)  # tidying up takes a moment
            raise
        finally:
            self.is_over = True
        return "done"


async def test_work_that_nobody_stops_gives_its_result() -> None:
    stop, work = Stop(), Work()
    work.may_end.set()
    assert await stop.unless(work()) == "done"
    assert (stop.is_requested, stop.is_insisted) == (False, False)


async def test_error_of_work_is_its_own() -> None:
    async def broken() -> None:
        raise ConfigError("odd")

    with pytest.raises(ConfigError):
        await Stop().unless(broken())


async def test_work_is_over_when_somebody_asks() -> None:
    stop, work = Stop(), Work()
    task = asyncio.create_task(stop.unless(work()))
    await work.begun.wait()
    stop.request()
    with pytest.raises(StoppedError):
        await task
    assert (work.was_cancelled, work.is_over) == (True, True)


async def test_work_does_not_begin_when_somebody_has_asked_before() -> None:
    stop, work = Stop(), Work()
    stop.request()
    with pytest.raises(StoppedError):
        await stop.unless(work())
    assert not work.begun.is_set()


async def test_work_that_ended_in_the_same_moment_keeps_its_result() -> None:
    stop, work = Stop(), Work()
    task = asyncio.create_task(stop.unless(work()))
    await work.begun.wait()
    work.may_end.set()
    await asyncio.sleep(0)  # now it is over, and nobody has heard of it
    stop.request()
    assert await task == "done"


async def test_cancellation_of_who_waits_is_no_request() -> None:
    stop, work = Stop(), Work()
    task = asyncio.create_task(stop.unless(work()))
    await work.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (work.is_over, stop.is_requested) == (True, False)


async def test_cancellation_and_a_request_in_the_same_moment_are_a_cancellation() -> None:
    stop, work = Stop(), Work()
    task = asyncio.create_task(stop.unless(work()))
    await work.begun.wait()
    stop.request()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.is_over


async def test_work_that_cancels_itself_is_not_taken_for_stopped() -> None:
    async def gives_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Stop().unless(gives_up())


async def test_any_thread_may_ask() -> None:
    stop, work = Stop(), Work()
    task = asyncio.create_task(stop.unless(work()))
    await work.begun.wait()
    thread = threading.Thread(target=stop.request)
    thread.start()
    with pytest.raises(StoppedError):
        await task
    thread.join()


async def test_everything_that_was_given_it_ends() -> None:
    stop, works = Stop(), [Work(), Work()]
    tasks = [asyncio.create_task(stop.unless(work())) for work in works]
    for work in works:
        await work.begun.wait()
    stop.request()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [StoppedError, StoppedError]


def test_one_stop_ends_work_in_several_loops() -> None:
    stop, begun, found = Stop(), threading.Barrier(3, timeout=30), []

    async def stopped() -> None:
        work = Work()
        task = asyncio.create_task(stop.unless(work()))
        await work.begun.wait()
        begun.wait()  # there is nothing else in this loop
        try:
            await task
        except StoppedError as error:
            found.append(error)

    threads = [threading.Thread(target=asyncio.run, args=(stopped(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    begun.wait()
    stop.request()
    for thread in threads:
        thread.join()
    assert len(found) == 2


async def test_asking_again_insists() -> None:
    stop, calls = Stop(), []
    with stop.calls(lambda: calls.append((stop.is_requested, stop.is_insisted))):
        stop.request()
        await asyncio.sleep(0)
        stop.request()
        await asyncio.sleep(0)
    assert calls == [(True, False), (True, True)]


async def test_who_has_left_is_not_called_any_more() -> None:
    stop, calls = Stop(), []
    act: Callable[[], None] = lambda: calls.append("called")  # noqa: E731
    with stop.calls(act):
        pass
    stop.request()
    await asyncio.sleep(0)
    assert calls == []


def test_who_asks_when_the_loop_has_ended_is_not_troubled() -> None:
    stop, calls = Stop(), []
    left = stop.calls(lambda: calls.append("called"))

    async def enter() -> None:
        left.__enter__()

    asyncio.run(enter())
    stop.request()
    assert (stop.is_requested, calls) == (True, [])
    left.__exit__(None, None, None)
