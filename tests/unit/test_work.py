"""Work that goes on, followed or not."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from fleet.errors import ConfigError
from fleet.events import Envelopes, OutputLine, PushProgressed, RunInterrupted
from fleet.library.work import LAG, Work
from fleet.model import HostName, Phase, RunId

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fleet.events import Envelope, Event

    Tell = Callable[[Envelope], None]

WEB = HostName("web-1")


def line(text: str) -> OutputLine:
    return OutputLine(host=WEB, phase=Phase.BUILD, text=text)


class Telling:
    """Work that tells what it is given, and ends when it is let."""

    def __init__(self) -> None:
        self.envelopes = Envelopes(RunId("r"), "ann")
        self.may_end = asyncio.Event()
        self.work = Work(self._work)

    async def _work(self, tell: Tell) -> str:
        self._tell = tell
        await self.may_end.wait()
        return "done"

    async def tell(self, *events: Event) -> None:
        await asyncio.sleep(0)  # it has begun
        for event in events:
            self._tell(self.envelopes.wrap(event))

    async def end(self, *events: Event) -> None:
        await self.tell(*events)
        self.may_end.set()


async def followed(work: Work[str]) -> list[Event]:
    return [event async for event in work]


async def test_events_are_followed_to_the_end() -> None:
    telling = Telling()
    following = asyncio.create_task(followed(telling.work))
    await telling.tell(line("one"))
    await asyncio.sleep(0)
    await telling.tell(line("two"))
    await telling.end(line("three"))
    assert await following == [line("one"), line("two"), line("three")]
    assert await telling.work == "done"


async def test_events_that_were_told_before_somebody_follows_are_not_lost() -> None:
    telling = Telling()
    await telling.end(line("one"))
    assert await telling.work == "done"
    assert await followed(telling.work) == [line("one")]


async def test_envelopes_say_where_the_events_belong() -> None:
    telling = Telling()
    await telling.end(line("one"), line("two"))
    found = [envelope async for envelope in telling.work.envelopes()]
    assert [(one.run, one.seq, one.by, one.event) for one in found] == [
        ("r", 1, "ann", line("one")), ("r", 2, "ann", line("two")),
    ]  # fmt: skip


async def test_work_goes_on_though_nobody_follows() -> None:
    telling = Telling()
    await telling.end()
    await telling.work.settled()
    assert (telling.work.is_done, await telling.work) == (True, "done")


async def cancelled(waiting: Coroutine[object, object, object]) -> None:
    """Somebody waits for this, and is cancelled."""
    task = asyncio.create_task(waiting)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def awaited(work: Work[str]) -> str:
    return await work


@pytest.mark.parametrize("how", [followed, awaited, Work.settled])
async def test_who_is_cancelled_leaves_the_work_alone(
    how: Callable[[Work[str]], Coroutine[object, object, object]],
) -> None:
    telling = Telling()
    await telling.tell()
    await cancelled(how(telling.work))
    assert not telling.work.is_done
    await telling.end()
    assert await telling.work == "done"


async def test_next_follower_goes_on_where_the_last_one_was_cancelled() -> None:
    telling = Telling()
    await telling.tell(line("one"))
    async for event in telling.work:
        assert event == line("one")
        break
    await telling.end(line("two"))
    assert await followed(telling.work) == [line("two")]


async def test_follower_that_lags_misses_progress_and_nothing_else() -> None:
    telling = Telling()
    progress = [PushProgressed(host=WEB, sent=number, total=2 * LAG) for number in range(2 * LAG)]
    await telling.end(*progress, line("one"), progress[-1], RunInterrupted())
    assert await followed(telling.work) == [*progress[:LAG], line("one"), RunInterrupted()]


async def test_error_of_work_is_raised_by_who_awaits_it_and_followers_see_the_end() -> None:
    async def broken(tell: Tell) -> str:
        tell(Envelopes(RunId("r"), "ann").wrap(line("one")))
        raise ConfigError("odd")

    work = Work(broken)
    assert await followed(work) == [line("one")]
    for _ in range(2):
        with pytest.raises(ConfigError, match="odd"):
            await work


async def test_error_of_work_that_nobody_awaits_is_nobodys_trouble() -> None:
    async def broken(tell: Tell) -> str:
        raise ConfigError("odd")

    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    work = Work(broken)
    await work.settled()
    del work
    gc.collect()
    assert said == []
