"""Starting a command on a connection in one round trip, where SSH as usual takes three.

A session is opened (one), the command is asked for (two), and its input goes out (three): sshd takes none before the
command runs. So a session is opened before anybody needs it, with a shell in it that waits for a line, becomes the
command that the line says, and leaves all the rest to it as its input. At 50 ms a push is little but round trips.

This reaches into asyncssh 2.24's channel. Where that is not as we know it, or ~/.ssh/config asks for more than a plain
session (an environment, the agent), asyncssh starts the command in its own way.
"""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.packet import SSHPacket

from fleet.machine import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Callable

Process = asyncssh.SSHClientProcess[bytes]

SPARE = 2
"""Sessions that are open before they are needed, from the second command on: who asks one thing needs none."""
_MARK = b"fleet: ready\n"
_WAITING = shlex.join(("sh", "-c", 'echo "fleet: ready" >&2; IFS= read -r line && eval "exec $line"'))
LONGEST = 4096
"""Bytes of a line. A shell reads it byte by byte, so that it takes nothing of what follows."""
SOON = 1.0
"""Seconds for which a shell that is just being started is waited for."""
FRESH = 20.0
"""Seconds for which one is used. A host may close sessions in which nothing happens (sshd's ChannelTimeout)."""
WINDOW, PACKET = 2 << 20, 32 << 10
"""Bytes that the host may send unasked, and in one packet; as asyncssh has them."""
_CONNECTION = ("_agent_forward_path", "_loop", "_options", "_update_recv_pktlen", "_utf8_decode_errors")
_CHANNEL = ("_make_request", "_open", "_send_request")


class Sessions:
    """Where the commands of one connection are started."""

    def __init__(self, connection: asyncssh.SSHClientConnection, used: Callable[[], int]) -> None:
        self._connection = connection
        self._used = used
        """How many sessions of the connection are in use or were asked for, at this moment."""
        self._spare: list[asyncio.Task[Process]] = []
        self._started = 0
        """Commands so far."""
        self._takes_lines = True
        """Whether the host had room and a shell for all that was asked for ahead."""

    async def start(self, line: str) -> Process:
        """The host has been asked to run the line, and what is written from now on is its input.

        Raises `asyncssh.ChannelOpenError` when the host has no place for one more session.
        """
        if not _is_known(self._connection):
            # ~/.ssh/config may ask for a terminal, which would mix stderr into stdout.
            return await self._connection.create_process(line, encoding=None, request_pty=False, x11_forwarding=False)
        waiting = await self._ready() if "\n" not in line and len(line.encode()) < LONGEST else None
        process = waiting or await self._begun(line)
        self._started += 1
        self._keep_spare()
        if waiting:
            waiting.stdin.write(line.encode() + b"\n")
        return process

    @property
    def has_started(self) -> bool:
        """Whether the host has run a command."""
        return self._started > 0

    async def give_way(self) -> None:
        """Shells that waited have ended, so that something else may run."""
        self._takes_lines = False
        spare, self._spare = self._spare, []
        for found in await asyncio.gather(*spare, return_exceptions=True):
            if not isinstance(found, BaseException):
                found.stdin.write_eof()
                await found.wait_closed()

    async def close(self) -> None:
        """Nobody waits for a session any more."""
        for task in self._spare:
            task.cancel()
        await asyncio.gather(*self._spare, return_exceptions=True)

    async def _ready(self) -> Process | None:
        """A shell that waits for its line, if there is one soon that can be trusted to."""
        while self._spare:
            task = self._spare[0]
            if not task.done():
                await asyncio.wait({task}, timeout=SOON)
            if not task.done() or task not in self._spare:
                return None
            self._spare.remove(task)
            if task.cancelled() or task.exception() is not None:
                continue
            process = task.result()
            if _session(process).is_fresh:
                return process
            process.channel.abort()
        return None

    async def _begun(self, line: str) -> Process:
        session = Session(self._connection)
        await session.open()
        return await session.start(line)

    async def _waiting(self) -> Process:
        """A shell waits. Raises `_NoShellError` where something else came of the line that asks for one."""
        process = await self._begun(_WAITING)
        said = b""
        try:
            while not said.endswith(_MARK) and (byte := await process.stderr.read(1)):
                said += byte
        finally:
            if not said.endswith(_MARK):
                process.channel.abort()
        if not said.endswith(_MARK):
            raise _NoShellError
        return process

    def _keep_spare(self) -> None:
        if self._started > 1 and self._takes_lines:
            for _ in range(min(SPARE, CHANNELS - self._used()) - len(self._spare)):
                task = asyncio.create_task(self._waiting())
                task.add_done_callback(self._note)
                self._spare.append(task)

    def _note(self, task: asyncio.Task[Process]) -> None:
        if not task.cancelled() and isinstance(task.exception(), _NoShellError | asyncssh.ChannelOpenError):
            self._takes_lines = False
            if task in self._spare:
                self._spare.remove(task)


class _NoShellError(Exception):
    """The host does not run what it is asked to run."""


class Session(asyncssh.SSHClientChannel[bytes]):
    """A session that does not wait until the host says that it runs the command."""

    def __init__(self, connection: Any) -> None:
        connection._update_recv_pktlen(PACKET)
        super().__init__(connection, connection._loop, connection._utf8_decode_errors, None, "strict", WINDOW, PACKET)
        self.is_refused = False
        """Whether the host would not run the command."""
        self._opened_at = 0.0

    async def open(self) -> None:
        """The host has a place for it. Raises `asyncssh.ChannelOpenError`."""
        (await super()._open(b"session")).check_end()
        self._opened_at = self._loop.time()

    @property
    def is_fresh(self) -> bool:
        """Whether it can still be used."""
        is_open = self._recv_state == "open" and self._send_state == "open"
        return is_open and self._loop.time() < self._opened_at + FRESH

    async def start(self, line: str) -> Process:
        """The command has been asked for. Raises `asyncssh.ConnectionLost`."""
        if self._conn is None:  # lost since the session was opened; asyncssh does not look
            raise asyncssh.ConnectionLost("connection lost")
        nothing: tuple[Any, ...] = (None, {}, False, None, None, {}, False, None, None, False, False)
        process: Any = await self.create(asyncssh.SSHClientProcess, line, *nothing)
        await process.redirect(asyncssh.PIPE, asyncssh.PIPE, asyncssh.PIPE)
        return process  # type: ignore[no-any-return]

    async def _open(self, chantype: bytes, *args: bytes) -> SSHPacket:  # noqa: ARG002
        return SSHPacket(b"")  # it has been opened

    async def _make_request(self, request: bytes, *args: bytes) -> bool:
        """The request has been sent, and is taken for granted."""
        reply = self._loop.create_future()
        reply.add_done_callback(self._replied)
        self._request_waiters.append(reply)
        self._send_request(request, *args, want_reply=True)
        return True

    def _replied(self, reply: asyncio.Future[bool]) -> None:
        if not reply.cancelled() and reply.exception() is None and not reply.result() and self._recv_state == "open":
            self.is_refused = True
            self.abort()


def is_refused(process: Process) -> bool:
    """Whether it has no exit status because the host would not run it."""
    return isinstance(process.channel, Session) and process.channel.is_refused


def _session(process: Process) -> Session:
    assert isinstance(process.channel, Session)
    return process.channel


def _is_known(connection: Any) -> bool:
    """Whether asyncssh is as this needs it, and no more is wanted than a plain session."""
    if not all(hasattr(connection, name) for name in _CONNECTION):
        return False
    if not all(hasattr(asyncssh.SSHClientChannel, name) for name in _CHANNEL):
        return False
    options = connection._options
    return not (options.env or options.send_env or connection._agent_forward_path)
