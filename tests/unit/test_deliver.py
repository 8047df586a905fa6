"""Hosts that fall silent in the middle of a delivery. What arrives is told by `tests/contract/test_store.py`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from fleet.errors import PushError, UnreachableError
from fleet.host.program import WENT_DOWN
from fleet.machine import Output
from fleet.model import HostName
from fleet.steps import deliver as steps
from fleet.steps.deliver import Delivery, deliver
from fleet.store import wire
from fleet.store.send import Progress
from tests.fakes import FakeMachine, in_no_time
from tests.unit.builders import NEW, RUN, FakeSupply, host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleet.machine import Command, Stream


class Mute:
    """A server that takes everything and says nothing."""

    async def read(self, count: int) -> bytes:  # noqa: ARG002 - as `Stream` has it
        await asyncio.Event().wait()
        raise AssertionError

    async def write(self, data: bytes | memoryview) -> None:
        pass

    waiting = 0

    async def ended(self) -> Output:
        raise AssertionError("nobody has ended it")


class Silent(FakeMachine):
    """A host whose server is mute, or that does not even start it. `left` says whether it was let go."""

    def __init__(self, *, starts: bool) -> None:
        super().__init__()
        self.starts = starts
        self.left = False

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[Stream]:  # noqa: ARG002 - as `RemoteMachine` has it
        try:
            if not self.starts:
                await asyncio.Event().wait()
            yield Mute()
        finally:
            self.left = True


@pytest.mark.parametrize("starts", [False, True], ids=["before the server starts", "at the first question"])
async def test_host_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch, *, starts: bool) -> None:
    monkeypatch.setattr(steps, "STALLED", 0.05)
    silent = Silent(starts=starts)
    delivery = Delivery(host=host(), run=RUN, wanted=(NEW,), tops=(NEW,))
    async with asyncio.timeout(30):
        with pytest.raises(PushError, match="the push stalled") as caught:
            await deliver(silent, FakeSupply(), delivery, Progress())
    assert "deploy again" in caught.value.hint
    assert silent.left


class Ending:
    """A server that answers so much, and ends then as it likes."""

    waiting = 0

    def __init__(self, said: bytes, end: Output | Exception) -> None:
        self._said, self._end = said, end

    async def read(self, count: int) -> bytes:
        block, self._said = self._said[:count], self._said[count:]
        return block

    async def write(self, data: bytes | memoryview) -> None:
        pass

    async def ended(self) -> Output:
        if isinstance(self._end, Exception):
            raise self._end
        return self._end


class Again(FakeMachine):
    """A host that always has a reason to begin anew, and each time has other paths than the last time."""

    def __init__(self, end: Output | Exception) -> None:
        super().__init__((lambda _: True, Output(status=0)))
        self.end, self.begun = end, 0

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[Stream]:  # noqa: ARG002 - as `RemoteMachine` has it
        self.begun += 1
        greeting = wire.number(wire.ANSWER) + wire.number(wire.VERSION)
        yield Ending(greeting + wire.texts(WANTED[: self.begun % 3]), self.end)


WANTED = tuple(f"{NEW}-{number}" for number in range(4))
LOST = UnreachableError(HostName("web-1"), "connection lost")


@pytest.mark.parametrize(
    "end", [Output(status=WENT_DOWN), LOST], ids=["it goes down", "it is lost, and has other paths"]
)
def test_host_that_always_begins_anew_is_given_up(end: Output | Exception) -> None:
    again = Again(end)
    delivery = Delivery(host=host(), run=RUN, wanted=WANTED, tops=WANTED[-1:])

    @in_no_time
    async def run() -> None:
        with pytest.raises(PushError, match=f"begun {steps.MOST_ATTEMPTS} times"):
            await deliver(again, FakeSupply(), delivery, Progress())

    run()
    assert again.begun == steps.MOST_ATTEMPTS
