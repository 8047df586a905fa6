"""Hosts that fall silent in the middle of a delivery. What arrives is told by `tests/contract/test_store.py`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from fleet.errors import PushError
from fleet.steps import deliver as steps
from fleet.steps.deliver import Delivery, deliver
from fleet.store.send import Progress
from tests.fakes import FakeMachine
from tests.unit.builders import NEW, RUN, FakeSupply, host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleet.machine import Command, Output, Stream


class Mute:
    """A server that takes everything and says nothing."""

    async def read(self, count: int) -> bytes:  # noqa: ARG002 - as `Stream` has it
        await asyncio.Event().wait()
        raise AssertionError

    async def write(self, data: bytes | memoryview) -> None:
        pass

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
