"""This machine as a host of the fleet: what a host is asked runs here, as root where it needs that, and without SSH."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import AuthenticationError, HostError
from fleet.inventory import Sudo
from fleet.machine.bounds import Outputs
from fleet.machine.local import Children, LocalMachine, end, started
from fleet.machine.pipe import LocalStreams
from fleet.machine.pump import NOTED, bridged, pump_down, pump_up
from fleet.machine.recognition import fingerprint
from fleet.machine.sudo import Elevation, elevated
from fleet.machine.tcp import dial_here
from fleet.machine.words import ended_with_us
from fleet.text import how_it_ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from fleet.inventory import Host
    from fleet.machine import Bridge, Command, OnLine, Output, Stream, TcpStream
    from fleet.machine.sudo import Secret

KEPT = ("HOME", "LOGNAME", "PATH", "SHELL", "SSH_AUTH_SOCK", "SUDO_USER", "USER")
"""What commands find in their environment, and no more: as after a login by SSH, so that both get the same answers. The
agent may be what sudo asks, and who has used sudo is who has to be let in again."""


class OwnMachine:
    """This machine in the place of the other end of a connection. It keeps the limits of a host."""

    def __init__(self, host: Host, password: Secret | None = None, *, is_root: bool | None = None) -> None:
        """`is_root` says whether fleet itself runs as root; None looks."""
        self._host = host
        self._children = _OwnChildren(host, password, is_root=os.geteuid() == 0 if is_root is None else is_root)
        self._commands = LocalMachine(children=self._children)

    @property
    def host_key(self) -> str:
        """See `RemoteMachine.host_key`: that of fleet.toml, by which this machine was recognised."""
        return fingerprint(self._host.host_key or "")

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        """See `Machine.run`."""
        return await self._commands.run(command, on_line=on_line)

    def dial(self, host: str, port: int, *, timeout: float) -> AbstractAsyncContextManager[TcpStream]:
        """See `Machine.dial`."""
        return dial_here(host, port, timeout=timeout)

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[Stream]:
        """See `RemoteMachine.stream`."""
        async with LocalStreams(self._children).stream(command) as stream:
            yield stream

    def bridge(self, command: Command) -> AbstractAsyncContextManager[Bridge]:
        """See `RemoteMachine.bridge`."""

        async def serve(bridge: Bridge, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._serve(command, bridge, reader, writer)
            except HostError as error:
                bridge.note(error.message)

        return bridged(serve)

    async def _serve(
        self, command: Command, bridge: Bridge, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pump one connection of the bridge to a new run of the command."""
        process = await self._children.start(command)
        try:
            await self._children.prepare(process, command)
            assert process.stdin is not None
            outputs = self._children.outputs(process)
            async with asyncio.TaskGroup() as group:
                group.create_task(pump_up(bridge, reader, process.stdin))
                group.create_task(pump_down(bridge, outputs, writer))
                stderr = group.create_task(outputs.errors(NOTED))
            bridge.note(stderr.result())
            if (status := await process.wait()) != 0:
                bridge.note(f"{command.program} {how_it_ended(status)}")
        finally:
            await end(process)


class _OwnChildren(Children):
    """Starts commands as a login by SSH would, and lets sudo make them root."""

    def __init__(self, host: Host, password: Secret | None, *, is_root: bool) -> None:
        super().__init__()
        self.name = host.name
        self._sudo = host.sudo
        self._password = password
        self._is_root = is_root

    def _uses_sudo(self, command: Command) -> bool:
        return command.root and not self._is_root

    async def start(self, command: Command) -> asyncio.subprocess.Process:
        """See `Children.start`. Raise `AuthenticationError` if it needs root, and nothing makes it root."""
        argv = ended_with_us(command.argv) if command.ends_with_us else command.argv
        if self._uses_sudo(command):
            if self._sudo is Sudo.NONE:
                hint = f'run fleet as root, or set sudo = true or sudo = "password" for {self.name}'
                message = f"{self.name} is this machine, fleet runs as {_user()} here, and this needs root"
                raise AuthenticationError(self.name, message, hint=hint)
            argv = elevated(argv, self._sudo)
        return await started(argv, _environment(), name=self.name, folder=_home())

    async def prepare(self, process: asyncio.subprocess.Process, command: Command) -> None:
        """See `Children.prepare`. Raise `AuthenticationError` if sudo does not make it root."""
        if not self._uses_sudo(command):
            return

        def give() -> None:
            # No `GivenTo` is asked: the password does not leave this machine.
            assert self._password is not None
            assert process.stdin is not None
            process.stdin.write(self._password.line())

        outputs, user = self.outputs(process), _user()
        way = Elevation(name=self.name, user=user, sudo=self._sudo, outputs=outputs, ended=process.wait)
        await way.complete(give if self._password is not None else None)

    def watches_stdin(self, command: Command) -> bool:
        """See `Children.watches_stdin`."""
        return command.ends_with_us

    def outputs(self, process: asyncio.subprocess.Process) -> Outputs:
        """See `Children.outputs`: within the limits of a host."""
        return Outputs(process)


def _environment() -> Mapping[str, str]:
    return {name: os.environ[name] for name in KEPT if name in os.environ}


def _home() -> str:
    """Return the folder in which a login begins: no command keeps a disk busy that people have gone to meanwhile."""
    home = os.environ.get("HOME", "/")
    return home if Path(home).is_dir() else "/"


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # as in a container
        return str(os.geteuid())
