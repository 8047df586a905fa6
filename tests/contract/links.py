"""Hosts that are this machine, over links that break."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from fleet.errors import UnreachableError
from fleet.machine.pipe import LocalStreams
from fleet.model import HostName

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleet.machine import Command, Output


class Linked(LocalStreams):
    """A host whose commands run here. `cuts`: after so many bytes each, its first connections are lost."""

    cuts: list[int]

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[Any]:
        async with super().stream(command) as stream:
            yield Cut(stream, self.cuts.pop(0)) if self.cuts else stream

    def bridge(self, command: Command) -> Any:
        raise NotImplementedError

    async def dial(self, host: str, port: int, *, timeout: float) -> Any:
        raise NotImplementedError


class Cut:
    """A connection that is lost after so many bytes went out."""

    def __init__(self, stream: Any, left: int) -> None:
        self.below = stream
        self._left = left

    async def read(self, count: int) -> bytes:
        return b"" if self._left <= 0 else await self.below.read(count)

    async def write(self, data: bytes) -> None:
        await self.below.write(bytes(data)[: max(0, self._left)])
        self._left -= len(data)
        if self._left <= 0:
            await self.below.ended()
            raise BrokenPipeError

    async def ended(self) -> Output:
        raise UnreachableError(HostName("linked"), "connection lost")
