"""A host over SSH: commands, bridges and TCP connections. `words.py` quotes for their shells, and nothing else does."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

from fleet.errors import AnswerError, AuthenticationError, CommandFailedError, ConfigError, HostError, UnreachableError
from fleet.events import plain_text
from fleet.inventory import Sudo
from fleet.machine import CHANNELS, Bridge, Command, Output
from fleet.machine.bounds import Outputs, TooMuchError
from fleet.machine.patched.session import is_refused
from fleet.machine.pump import BLOCK, cancel_all, pump_down, pump_up, start_task
from fleet.machine.sessions import Sessions
from fleet.machine.stream import SshStream
from fleet.machine.sudo import sudo_refusal
from fleet.machine.tcp import dial_through
from fleet.machine.translate import translated
from fleet.scripts import one_line
from fleet.text import how_it_ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from fleet.inventory import Host
    from fleet.machine import OnLine, TcpStream
    from fleet.machine.given import GivenTo

PROMPT = "fleet: sudo password:"
ELEVATED = "fleet: elevated"
LECTURE = 64 << 10
"""Bytes that sudo may say, at most, until it has made us root."""
NOTED = 64 << 10
"""Bytes that are kept of the stderr of each command behind a bridge."""
LONGEST_PASSWORD = 255
"""Bytes. sudo reads no more of it everywhere."""
ENDING = 5.0
"""Seconds that the host gets to end a session that we have closed. It counts as a session until then."""
ASK_AGAIN = 0.1
"""Seconds before the host is asked again for a session that it had no place for."""


class Secret:
    """A password. It is never part of an argv, an event or a repr, and is sent on stdin only."""

    def __init__(self, text: str) -> None:
        """Raise `ConfigError` for what sudo would not take as a whole: the rest would go to a command that is root."""
        self._text = text
        data = text.encode(errors="surrogateescape")
        if len(data) > LONGEST_PASSWORD or any(end in data for end in b"\n\r\0"):
            message = f"the sudo password has a line break or a NUL in it, or more than {LONGEST_PASSWORD} bytes"
            raise ConfigError(message, hint="sudo would read a part of it; does it come from a file with more lines?")

    def reveal(self) -> str:
        return self._text

    def line(self) -> bytes:
        """Return the line that is sent to sudo."""
        return self._text.encode(errors="surrogateescape") + b"\n"

    def __repr__(self) -> str:
        return "***"


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
        self._starter = Sessions(connection, lambda: self._sessions)
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
            raise AnswerError(self.name, f"{command.argv[0]} {error}", ran=str(command)) from error
        except TimeoutError as error:
            message = f"{command.argv[0]} did not end within {command.timeout:g} s"
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
            name = plain_text(process.exit_signal[0])[:20]
            died = f"{command.argv[0]} {how_it_ended(-9) if name == 'KILL' else f'died of SIG{name}'}"
            raise CommandFailedError(self.name, died, ran=str(command), said=stderr.splitlines()[-5:])
        return process.returncode

    @contextlib.asynccontextmanager
    async def _started(self, command: Command) -> AsyncIterator[asyncssh.SSHClientProcess[bytes]]:
        elevate = command.root and self._host.sudo is not Sudo.NONE
        argv = _watching(command.argv) if command.ends_with_us else command.argv
        argv = self._elevated(argv) if elevate else argv
        process = await self._session(argv)
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

    async def _session(self, argv: tuple[str, ...]) -> asyncssh.SSHClientProcess[bytes]:
        """Start the command. If the host allows no further session now, wait until another one has ended."""
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

    async def _ask(self, argv: tuple[str, ...]) -> asyncssh.SSHClientProcess[bytes]:
        """Ask for a session once, and count it."""
        self._sessions += 1
        try:
            return await self._starter.start(argv)
        except BaseException as error:
            self._sessions -= 1
            if isinstance(error, asyncssh.ChannelOpenError) and error.code == asyncssh.OPEN_REQUEST_SESSION_FAILED:
                raise self._runs_nothing(argv) from error
            raise

    def _runs_nothing(self, argv: tuple[str, ...]) -> CommandFailedError:
        return CommandFailedError(self.name, "the host runs no commands for us", ran=shlex.join(argv))

    def _elevated(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        # Not -n: it forbids PAM to let somebody in who needs no password, as by a forwarded agent. Without a terminal
        # and without -S sudo asks nobody either.
        ask = ("-k", "-S", "-p", PROMPT) if self._host.sudo is Sudo.PASSWORD else ()
        return ("sudo", *ask, "--", "sh", "-c", one_line("fleet.machine", "be-root"), "sh", *argv)

    async def _pass_sudo(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        """Become root with sudo. Nothing but the password has gone to stdin when this returns."""
        prompt, elevated = PROMPT.encode(), ELEVATED.encode() + b"\n"
        outputs, said, prompts = Outputs(process), b"", 0
        while not said.endswith(elevated):
            said += await outputs.until(prompt, elevated, most=LECTURE)
            if said.endswith(prompt):
                prompts += 1
                if prompts > 1 or self._password is None:
                    raise AuthenticationError(self.name, "sudo password refused", hint="type it again")
                if self._given is not None:
                    self._given.require(self.name, self.host_key)
                process.stdin.write(self._password.line())
            elif not said.endswith(elevated):
                raise await self._refusal_of_sudo(process, said)

    async def _refusal_of_sudo(self, process: asyncssh.SSHClientProcess[bytes], said: bytes) -> HostError:
        """Return the error that says why sudo did not make us root. `said` is all that it wrote."""
        if len(said) >= LECTURE:
            return AnswerError(self.name, f"sudo says more than {LECTURE >> 10} KiB and does not make us root")
        await process.wait_closed()
        if process.returncode is None:
            return UnreachableError(self.name, "connection lost while becoming root")
        return sudo_refusal(self.name, self.user, self._host.sudo, process.returncode, said)

    @property
    def user(self) -> str:
        """The user who has logged in."""
        return str(self.connection.get_extra_info("username") or "the user")

    @contextlib.asynccontextmanager
    async def bridge(self, command: Command) -> AsyncIterator[Bridge]:
        """See `RemoteMachine.bridge`."""
        # The path of a UNIX socket has at most 107 bytes, so the folder's must be short. Nobody else may look into it.
        with tempfile.TemporaryDirectory(prefix="fleet-", ignore_cleanup_errors=True) as folder:
            bridge = Bridge(Path(folder) / "s", last_moved=asyncio.get_running_loop().time())
            tasks: set[asyncio.Task[None]] = set()

            def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                start_task(tasks, self._serve(bridge, command, reader, writer), writer)

            server = await asyncio.start_unix_server(serve, bridge.socket)
            try:
                yield bridge
            finally:
                server.close()
                await cancel_all(tasks)

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
        self, bridge: Bridge, command: Command, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
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
                        bridge.note(f"{command.argv[0]} ended with exit status {status}")
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


def _watching(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command so that it ends when its stdin does, which is when nobody waits for it any more."""
    return ("sh", "-c", one_line("fleet.machine", "end-with-us"), "sh", *argv)


async def _feed(stdin: asyncssh.SSHWriter[bytes], data: bytes) -> None:
    # A command that does not read its input to the end is not an error.
    with contextlib.suppress(BrokenPipeError, asyncssh.ConnectionLost):
        for start in range(0, len(data), BLOCK):
            stdin.write(data[start : start + BLOCK])
            await stdin.drain()
        stdin.write_eof()
