"""Hosts that are this machine: over links that break, over SSH, and without."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from fleet.errors import UnreachableError
from fleet.inventory import Host, Sudo
from fleet.machine.login import Logins
from fleet.machine.pipe import LocalStreams
from fleet.model import HostName
from tests.sshd import KEY, Server, listening, public

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleet.machine import Command, Output
    from fleet.machine.ssh import SshMachine


class Linked:
    """A host whose commands run here. `cuts`: after so many bytes each, its first connections are lost."""

    cuts: list[int]
    below: Any = LocalStreams()
    """What runs them."""
    host_key = ""

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[Any]:
        async with self.below.stream(command) as stream:
            yield Cut(stream, self.cuts.pop(0)) if self.cuts else stream

    def bridge(self, command: Command) -> Any:
        raise NotImplementedError

    def dial(self, host: str, port: int, *, timeout: float) -> Any:
        raise NotImplementedError


@contextlib.asynccontextmanager
async def over_ssh() -> AsyncIterator[SshMachine]:
    """A host whose commands run here too, by a login to an SSH server of this process."""
    async with listening(Server()) as server, Logins({}).connect(host_of(server)) as machine:
        yield machine


def own_host(sudo: Sudo = Sudo.NONE) -> Host:
    """A host that is this machine."""
    return Host(name=HostName("web-1"), address=("local",), host_key=public(KEY), sudo=sudo)


def host_of(server: Server) -> Host:
    """The host that leads to the server."""
    return Host(name=HostName("web-1"), address=("127.0.0.1",), port=server.port, host_key=server.public)


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

    waiting = 0

    async def ended(self) -> Output:
        raise UnreachableError(HostName("linked"), "connection lost")
