"""A host over SSH: commands, bridges and TCP connections. `words.py` quotes for their shells, and nothing else does."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shlex
from typing import TYPE_CHECKING

import asyncssh

from fleet.errors import AnswerError, CommandFailedError, HostError, UnreachableError
from fleet.inventory import Sudo
from fleet.machine import CHANNELS, Output, gate
from fleet.machine.bounds import Outputs, TooMuchError
from fleet.machine.patched.session import is_refused
from fleet.machine.pump import BLOCK, NOTED, bridged, pump_down, pump_up
from fleet.machine.sessions import Sessions
from fleet.machine.stream import SshStream
from fleet.machine.sudo import Elevation, elevated
from fleet.machine.tcp import dial_through
from fleet.machine.translate import translated
from fleet.machine.words import ended_with_us
from fleet.text import how_it_ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from fleet.inventory import Host
    from fleet.machine import Bridge, Command, OnLine, TcpStream
    from fleet.machine.given import GivenTo
    from fleet.machine.sudo import Secret

ENDING = 5.0
"""Seconds that the host gets to end a session that we have closed. It counts as a session until then."""
ASK_AGAIN = 0.1
"""Seconds before the host is asked again for a session that it had no place for."""


class SshMachine:
    """A host at the other end of one SSH connection."""

    def __init__(
        self,
        host: Host,
        connection: asyncssh.SSHClientConnection,
        address: str,
        password: Secret | None,
        given: GivenTo | None = None,
    ) -> None:
        self.name = host.name
        self.address = address
        self._host = host
        self.connection = connection
        self._password = password
        self._given = given
        self._channels = asyncio.Semaphore(CHANNELS)
        self._starter = Sessions(connection, lambda: self._sessions, has_shell=not host.gate)
        self._sessions = 0
        """How many sessions are in use or asked for."""
        self._queue = asyncio.Lock()

    @property
    def host_key(self) -> str:
        """See `RemoteMachine.host_key`."""
        key = self.connection.get_server_host_key()
        return key.get_fingerprint() if key is not None else ""

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        """See `Machine.run`."""
        try:
            async with self._channels, asyncio.timeout(command.timeout):
                with translated(self.name):
                    return await self._run(command, on_line)
        except TooMuchError as error:
            raise AnswerError(self.name, f"{command.program} {error}", ran=str(command)) from error
        except TimeoutError as error:
            message = f"{command.program} did not end within {command.timeout:g} s"
            raise CommandFailedError(self.name, message, ran=str(command)) from error

    async def _run(self, command: Command, on_line: OnLine | None) -> Output:
        async with self._started(command) as process:
            outputs = Outputs(process)
            async with asyncio.TaskGroup() as group:
                stdout = group.create_task(outputs.answer(command))
                stderr = group.create_task(outputs.errors(command.keep, on_line))
                if not command.ends_with_us:
                    group.create_task(_feed(process.stdin, command.stdin))
            await process.wait_closed()
            status = self._status(process, command, stderr.result())
            return Output(status=status, stdout=stdout.result(), stderr=stderr.result(), left_out=outputs.left_out)

    def _status(self, process: asyncssh.SSHClientProcess[bytes], command: Command, stderr: str) -> int:
        """Return the exit status of a process that has ended. Raise `HostError` if it has none."""
        # asyncssh raises no error when the connection drops: the command ends without a status, its output cut short.
        if process.returncode is None:
            raise UnreachableError(self.name, "connection lost while running a command", ran=str(command))
        if process.exit_signal is not None:
            died = f"{command.program} {how_it_ended(process.returncode)}"
            raise CommandFailedError(self.name, died, ran=str(command), said=stderr.splitlines()[-5:])
        return process.returncode

    @contextlib.asynccontextmanager
    async def _started(self, command: Command) -> AsyncIterator[asyncssh.SSHClientProcess[bytes]]:
        elevate = command.root and self._host.sudo is not Sudo.NONE
        argv = ended_with_us(command.argv) if command.ends_with_us else command.argv
        argv = elevated(argv, self._host.sudo) if elevate else argv
        process = await self._session(argv if not self._host.gate else gate.line(self.name, command))
        try:
            if elevate:
                await self._pass_sudo(process)
            yield process
        except UnreachableError as error:
            if is_refused(process):
                raise self._runs_nothing(argv) from error
            raise
        finally:
            self._sessions -= 1
            # Not `async with process`, which waits for the far end: sshd keeps a channel until its command ends.
            process.channel.abort()

    async def _session(self, argv: tuple[str, ...] | str) -> asyncssh.SSHClientProcess[bytes]:
        """Start the command, or what is asked of a gate.

        If the host allows no further session now, wait until another one has ended.
        """
        with contextlib.suppress(asyncssh.ChannelOpenError):
            return await self._ask(argv)
        clock = asyncio.get_running_loop().time
        async with self._queue:
            alone = clock()
            while True:
                if self._sessions:
                    alone = clock()
                try:
                    return await self._ask(argv)
                except asyncssh.ChannelOpenError:
                    await self._starter.give_way()
                    ending = self._starter.has_started and clock() < alone + ENDING
                    if self.connection.is_closed() or not (self._sessions or ending):
                        raise
                await asyncio.sleep(ASK_AGAIN)

    async def _ask(self, argv: tuple[str, ...] | str) -> asyncssh.SSHClientProcess[bytes]:
        """Ask for a session once, and count it."""
        self._sessions += 1
        try:
            return await (self._starter.start_line(argv) if isinstance(argv, str) else self._starter.start(argv))
        except BaseException as error:
            self._sessions -= 1
            if isinstance(error, asyncssh.ChannelOpenError) and error.code == asyncssh.OPEN_REQUEST_SESSION_FAILED:
                raise self._runs_nothing(argv) from error
            raise

    def _runs_nothing(self, argv: tuple[str, ...] | str) -> CommandFailedError:
        ran = argv if isinstance(argv, str) else shlex.join(argv)
        return CommandFailedError(self.name, "the host runs no commands for us", ran=ran)

    async def _pass_sudo(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        """Become root with sudo. Nothing but the password has gone to stdin when this returns."""

        def give() -> None:
            assert self._password is not None
            if self._given is not None:
                self._given.require(self.name, self.host_key)
            process.stdin.write(self._password.line())

        async def ended() -> int | None:
            await process.wait_closed()
            return process.returncode

        sudo, outputs = self._host.sudo, Outputs(process)
        elevation = Elevation(name=self.name, user=self.user, sudo=sudo, outputs=outputs, ended=ended)
        await elevation.complete(give if self._password is not None else None)

    @property
    def user(self) -> str:
        """The user who has logged in."""
        return str(self.connection.get_extra_info("username") or "the user")

    def bridge(self, command: Command) -> AbstractAsyncContextManager[Bridge]:
        """See `RemoteMachine.bridge`."""
        return bridged(functools.partial(self._serve, command))

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[SshStream]:
        """See `RemoteMachine.stream`."""
        async with self._channels:
            started = contextlib.AsyncExitStack()
            with translated(self.name):
                process = await started.enter_async_context(self._started(command))
            async with started, contextlib.aclosing(SshStream(self.name, command, process)) as stream:
                yield stream

    async def _serve(
        self, command: Command, bridge: Bridge, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pump one connection of the bridge to a new run of the command. What goes wrong is noted in the bridge."""
        try:
            with translated(self.name):
                async with self._channels, self._started(command) as process:
                    outputs = Outputs(process)
                    async with asyncio.TaskGroup() as group:
                        group.create_task(pump_up(bridge, reader, process.stdin))
                        group.create_task(pump_down(bridge, outputs, writer))
                        stderr = group.create_task(outputs.errors(NOTED))
                    bridge.note(stderr.result())
                    await process.wait_closed()
                    status = self._status(process, command, stderr.result())
                    if status != 0:
                        bridge.note(f"{command.program} ended with exit status {status}")
        except HostError as error:
            bridge.note(error.message)

    def dial(self, host: str, port: int, *, timeout: float) -> AbstractAsyncContextManager[TcpStream]:
        """See `Machine.dial`."""
        return dial_through(self.connection, self.name, host, port, timeout=timeout)

    async def close(self) -> None:
        """Close the connection and everything that goes through it."""
        await self._starter.close()
        self.connection.close()  # waits neither for the far end nor for bytes that are still to be sent
        await self.connection.wait_closed()


async def _feed(stdin: asyncssh.SSHWriter[bytes], data: bytes) -> None:
    # A command that does not read its input to the end is not an error.
    with contextlib.suppress(BrokenPipeError, asyncssh.ConnectionLost):
        for start in range(0, len(data), BLOCK):
            stdin.write(data[start : start + BLOCK])
            await stdin.drain()
        stdin.write_eof()
