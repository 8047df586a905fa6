"""One host's connection for a whole run: kept open, opened again after it was lost."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from fleet.errors import UnreachableError
from fleet.machine.pace import PacedStream

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterator

    from fleet.inventory import Host
    from fleet.machine import Bridge, Command, OnLine, Output, Stream
    from fleet.machine.login import Logins
    from fleet.machine.pace import Pace
    from fleet.machine.ssh import SshMachine


class Link:
    """A RemoteMachine that connects when it is first used, and again when the connection had been lost.

    What was under way when it was lost is not repeated: whoever asked decides that.
    """

    def __init__(self, logins: Logins, host: Host, *, pace: Pace | None = None) -> None:
        self.host = host
        self._logins = logins
        self._pace = pace
        """What bridges and streams keep to on the way there. Commands and their answers are small."""
        self._stack = contextlib.AsyncExitStack()
        self._machine: SshMachine | None = None
        self._opening = asyncio.Lock()

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        """See `Machine.run`."""
        machine = await self._connected()
        with self._watched(machine):
            return await machine.run(command, on_line=on_line)

    async def dial(self, host: str, port: int, *, timeout: float) -> socket.socket:
        """See `Machine.dial`."""
        machine = await self._connected()
        with self._watched(machine):
            return await machine.dial(host, port, timeout=timeout)

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
    async def fresh(self) -> AsyncIterator[SshMachine]:
        """A new connection beside the old one: the proof that the host still lets people in."""
        async with self._logins.connect(self.host) as machine:
            yield machine

    async def close(self) -> None:
        """Nothing of the connection is left."""
        self._machine = None
        stack, self._stack = self._stack, contextlib.AsyncExitStack()
        await stack.aclose()

    async def _connected(self) -> SshMachine:
        async with self._opening:
            if self._machine is None:  # the old one stays open until the end: others may still be using it
                self._machine = await self._stack.enter_async_context(self._logins.connect(self.host))
            return self._machine

    @contextlib.contextmanager
    def _watched(self, machine: SshMachine) -> Iterator[None]:
        try:
            yield
        except UnreachableError:
            if self._machine is machine:
                self._machine = None
            raise
