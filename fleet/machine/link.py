"""Keep one connection to a host for a whole run, and open it again after it was lost."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from fleet.errors import UnreachableError
from fleet.machine.pace import PacedStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from fleet.inventory import Host
    from fleet.machine import Bridge, Command, Connector, OnAnswer, OnLine, Output, RemoteMachine, Stream, TcpStream
    from fleet.machine.pace import Pace


class SshLink:
    """A `Link` that connects when it is first used, and again after the connection was lost.

    What was under way at that moment is not repeated: the caller decides about that.
    """

    is_here = False
    """See `Link.is_here`."""
    shortfall = ""
    """See `Link.shortfall`."""

    def __init__(self, connector: Connector, host: Host, *, pace: Pace | None = None) -> None:
        self.host = host
        self._connector = connector
        self._pace = pace
        """Limits what bridges and streams send. Commands and their answers are small, and not limited."""
        self._stack = contextlib.AsyncExitStack()
        self._machine: RemoteMachine | None = None
        self._host_key = ""
        self._opening = asyncio.Lock()

    @property
    def host_key(self) -> str:
        """See `RemoteMachine.host_key`: that of the newest connection, and empty before the first."""
        return self._host_key

    async def open(self, *, on_answer: OnAnswer | None = None) -> None:
        """See `Link.open`."""
        await self._connected(on_answer)

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        """See `Machine.run`."""
        machine = await self._connected()
        with self._watched(machine):
            return await machine.run(command, on_line=on_line)

    @contextlib.asynccontextmanager
    async def dial(self, host: str, port: int, *, timeout: float) -> AsyncIterator[TcpStream]:
        """See `Machine.dial`."""
        machine = await self._connected()
        with self._watched(machine):
            async with machine.dial(host, port, timeout=timeout) as stream:
                yield stream

    @contextlib.asynccontextmanager
    async def bridge(self, command: Command) -> AsyncIterator[Bridge]:
        """See `RemoteMachine.bridge`."""
        machine = await self._connected()
        async with machine.bridge(command) as bridge:
            bridge.pace = self._pace
            yield bridge

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[Stream]:
        """See `RemoteMachine.stream`."""
        machine = await self._connected()
        with self._watched(machine):
            async with machine.stream(command) as stream:
                yield stream if self._pace is None else PacedStream(stream, self._pace)

    @contextlib.asynccontextmanager
    async def fresh(self) -> AsyncIterator[RemoteMachine]:
        """See `Link.fresh`."""
        async with self._connector.connect(self.host) as machine:
            yield machine

    async def rehearse(self) -> None:
        """See `Link.rehearse`. The link itself came about by a login."""

    async def close(self) -> None:
        """See `Link.close`."""
        self._machine = None
        stack, self._stack = self._stack, contextlib.AsyncExitStack()
        await stack.aclose()

    async def _connected(self, on_answer: OnAnswer | None = None) -> RemoteMachine:
        async with self._opening:
            if self._machine is None:  # an old one stays open until `close`, since others may still use it
                connecting = self._connector.connect(self.host, on_answer=on_answer)
                self._machine = await self._stack.enter_async_context(connecting)
                self._host_key = self._machine.host_key
            return self._machine

    @contextlib.contextmanager
    def _watched(self, machine: RemoteMachine) -> Iterator[None]:
        """Forget the machine if its connection is lost while inside."""
        try:
            yield
        except UnreachableError:
            if self._machine is machine:
                self._machine = None
            raise
