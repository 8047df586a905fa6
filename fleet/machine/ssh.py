"""A host over SSH: commands, bridges and TCP connections. The only file that quotes for a shell."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

from fleet.errors import AuthenticationError, CommandFailedError, HostError, UnreachableError
from fleet.events import plain_text
from fleet.inventory import Sudo
from fleet.machine import CHANNELS, Bridge, Command, Output
from fleet.machine.lines import read_text
from fleet.machine.pump import BLOCK, cancelled, join, keep, pump_down, pump_up
from fleet.machine.session import Sessions, is_refused
from fleet.machine.stream import SshStream
from fleet.machine.translate import translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleet.inventory import Host
    from fleet.machine import OnLine

PROMPT = "fleet: sudo password:"
ELEVATED = "fleet: elevated"
ENDING = 5.0
"""Seconds that the host gets to end what we have closed: until then it counts as a session."""
ASK_AGAIN = 0.1
"""Seconds after which a session is asked for again that the host had no place for."""


class Secret:
    """A password. It is never part of an argv, an event or a repr; it travels on stdin."""

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"


class SshMachine:
    """A host at the other end of one SSH connection."""

    def __init__(
        self, host: Host, connection: asyncssh.SSHClientConnection, address: str, password: Secret | None
    ) -> None:
        self.name = host.name
        self.address = address
        self._host = host
        self.connection = connection
        self._password = password
        self._channels = asyncio.Semaphore(CHANNELS)
        self._starter = Sessions(connection, lambda: self._sessions)
        self._sessions = 0
        """Sessions that are in use, or were asked for."""
        self._queue = asyncio.Lock()
        self._pumps: set[asyncio.Task[None]] = set()

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        """The command has ended with an exit status. See `Machine.run`."""
        try:
            async with self._channels, asyncio.timeout(command.timeout):
                with translated(self.name):
                    return await self._run(command, on_line)
        except TimeoutError as error:
            message = f"{command.argv[0]} did not end within {command.timeout:g} s"
            raise CommandFailedError(self.name, message, ran=str(command)) from error

    async def _run(self, command: Command, on_line: OnLine | None) -> Output:
        async with self._started(command) as process:
            async with asyncio.TaskGroup() as group:
                stdout = group.create_task(read_text(process.stdout.read, None, command.keep))
                stderr = group.create_task(read_text(process.stderr.read, on_line, command.keep))
                group.create_task(_feed(process.stdin, command.stdin))
            await process.wait_closed()
            status = self._status(process, command, stderr.result())
            return Output(status=status, stdout=stdout.result(), stderr=stderr.result())

    def _status(self, process: asyncssh.SSHClientProcess[bytes], command: Command, stderr: str) -> int:
        # A connection that drops ends a command without an error: no status, and its output cut short.
        if process.returncode is None:
            raise UnreachableError(self.name, "connection lost while running a command", ran=str(command))
        if process.exit_signal is not None:
            died = f"{command.argv[0]} died of SIG{process.exit_signal[0]}"
            raise CommandFailedError(self.name, died, ran=str(command), said=stderr.splitlines()[-5:])
        return process.returncode

    @contextlib.asynccontextmanager
    async def _started(self, command: Command) -> AsyncIterator[asyncssh.SSHClientProcess[bytes]]:
        elevate = command.root and self._host.sudo is not Sudo.NONE
        argv = self._elevated(command.argv) if elevate else command.argv
        process = await self._session(shlex.join(argv))
        try:
            if elevate:
                await self._pass_sudo(process)
            yield process
        except UnreachableError as error:
            if is_refused(process):
                raise CommandFailedError(self.name, "the host runs no commands for us", ran=shlex.join(argv)) from error
            raise
        finally:
            self._sessions -= 1
            # Not `async with process`: that waits for the far end, and sshd keeps a channel until its command ends.
            process.channel.abort()

    async def _session(self, line: str) -> asyncssh.SSHClientProcess[bytes]:
        """The line has been started. A host that allows few sessions at once gives us one when another has ended."""
        with contextlib.suppress(asyncssh.ChannelOpenError):
            return await self._ask(line)
        clock = asyncio.get_running_loop().time
        async with self._queue:
            alone = clock()
            while True:
                if self._sessions:
                    alone = clock()
                try:
                    return await self._ask(line)
                except asyncssh.ChannelOpenError:
                    await self._starter.give_way()
                    ending = self._starter.has_started and clock() < alone + ENDING
                    if self.connection.is_closed() or not (self._sessions or ending):
                        raise
                await asyncio.sleep(ASK_AGAIN)

    async def _ask(self, line: str) -> asyncssh.SSHClientProcess[bytes]:
        self._sessions += 1
        try:
            return await self._starter.start(line)
        except BaseException:
            self._sessions -= 1
            raise

    def _elevated(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        ask = ("-k", "-S", "-p", PROMPT) if self._host.sudo is Sudo.PASSWORD else ("-n",)
        return ("sudo", *ask, "--", "sh", "-c", f'echo "{ELEVATED}" >&2; exec "$@"', "sh", *argv)

    async def _pass_sudo(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        """The command is about to start as root: nothing but the password has gone to stdin."""
        said = b""
        asked = 0
        while not said.endswith(ELEVATED.encode() + b"\n"):
            byte = await process.stderr.read(1)
            if not byte:
                await process.wait_closed()
                if process.returncode is None:
                    raise UnreachableError(self.name, "connection lost while becoming root")
                lines = plain_text(said.decode(errors="replace")).strip().splitlines()
                hint = 'set sudo = "password" for this host, or allow the user passwordless sudo'
                raise AuthenticationError(self.name, "sudo refused", said=lines[-3:], hint=hint)
            said += byte
            if said.endswith(PROMPT.encode()):
                asked += 1
                if asked > 1 or self._password is None:
                    raise AuthenticationError(self.name, "sudo password refused", hint="type it again")
                process.stdin.write(self._password.reveal().encode() + b"\n")

    @contextlib.asynccontextmanager
    async def bridge(self, command: Command) -> AsyncIterator[Bridge]:
        """While open, each connection to the socket talks to a fresh run of `command` on the host."""
        # A UNIX socket's path may have at most 107 bytes: the folder must be short, and nobody else's.
        with tempfile.TemporaryDirectory(prefix="fleet-", ignore_cleanup_errors=True) as folder:
            bridge = Bridge(Path(folder) / "s", last_moved=asyncio.get_running_loop().time())
            tasks: set[asyncio.Task[None]] = set()

            def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                keep(tasks, self._serve(bridge, command, reader, writer), writer)

            server = await asyncio.start_unix_server(serve, bridge.socket)
            try:
                yield bridge
            finally:
                server.close()
                await cancelled(tasks)

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[SshStream]:
        """While open, the command runs and its stdin and stdout carry bytes. See `RemoteMachine.stream`."""
        async with self._channels:
            started = contextlib.AsyncExitStack()
            with translated(self.name):
                process = await started.enter_async_context(self._started(command))
            async with started, contextlib.aclosing(SshStream(self.name, command, process)) as stream:
                yield stream

    async def _serve(
        self, bridge: Bridge, command: Command, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            with translated(self.name):
                async with self._channels, self._started(command) as process:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(pump_up(bridge, reader, process.stdin))
                        group.create_task(pump_down(bridge, process.stdout, writer))
                        stderr = group.create_task(read_text(process.stderr.read, None))
                    bridge.note(stderr.result())
                    await process.wait_closed()
                    status = self._status(process, command, stderr.result())
                    if status != 0:
                        bridge.note(f"{command.argv[0]} ended with exit status {status}")
        except HostError as error:
            bridge.note(error.message)

    async def dial(self, host: str, port: int, *, timeout: float) -> socket.socket:
        """A connected socket whose far end is `host:port` as the host sees it."""
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await self.connection.open_connection(host, port, encoding=None)
        except TimeoutError as error:
            raise TimeoutError(f"no answer within {timeout:g} s") from error
        except (asyncssh.Error, OSError) as error:
            if isinstance(error, asyncssh.ChannelOpenError) and not self.connection.is_closed():
                raise OSError(_refusal(error)) from error
            raise UnreachableError(self.name, "connection lost while dialling") from error
        ours, theirs = socket.socketpair()
        near_reader, near_writer = await asyncio.open_connection(sock=ours)
        keep(self._pumps, join(near_reader, near_writer, reader, writer), near_writer, writer)
        return theirs

    async def close(self) -> None:
        """The connection and everything that went through it have ended."""
        await cancelled(self._pumps)
        await self._starter.close()
        self.connection.close()  # this does not wait for the far end, nor for bytes that are still to be sent
        await self.connection.wait_closed()


def _refusal(error: asyncssh.ChannelOpenError) -> str:
    reason = plain_text(error.reason).lower()
    return "connection refused" if reason in ("", "connect failed") else reason


async def _feed(stdin: asyncssh.SSHWriter[bytes], data: bytes) -> None:
    # A command that does not read its input to the end is not an error.
    with contextlib.suppress(BrokenPipeError, asyncssh.ConnectionLost):
        for start in range(0, len(data), BLOCK):
            stdin.write(data[start : start + BLOCK])
            await stdin.drain()
        stdin.write_eof()
