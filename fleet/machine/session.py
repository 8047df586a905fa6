"""Starting a command on a connection in one round trip, where SSH as usual takes three.

A session is opened (one), the command is asked for (two), and only then does its input go out (three). Nothing forbids
to send the input right after the request, as a server takes both in order (RFC 4254, 6.5), and to open a session before
anybody needs it. At 50 ms a push is little but such round trips.

This reaches into asyncssh 2.24's channel. Where that is not as we know it, or ~/.ssh/config asks for more than a plain
session (an environment, the agent), asyncssh starts the command in its own way.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.packet import SSHPacket

from fleet.machine import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Callable

Process = asyncssh.SSHClientProcess[bytes]

SPARE = 2
"""Sessions that are open before they are needed, from the second command on: who asks one thing needs none."""
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
        self._spare: list[asyncio.Task[Session]] = []
        self._started = 0
        self._has_room = True
        """Whether the host opened all that was asked for ahead."""

    async def start(self, line: str) -> Process:
        """The host has been asked to run the line, and what is written from now on is its input.

        Raises `asyncssh.ChannelOpenError` when the host has no place for one more session.
        """
        if not _is_known(self._connection):
            # ~/.ssh/config may ask for a terminal, which would mix stderr into stdout.
            return await self._connection.create_process(line, encoding=None, request_pty=False, x11_forwarding=False)
        session = await self._session()
        self._started += 1
        self._keep_spare()
        return await session.start(line)

    async def close(self) -> None:
        """Nobody waits for a session any more."""
        for task in self._spare:
            task.cancel()
        await asyncio.gather(*self._spare, return_exceptions=True)

    async def _session(self) -> Session:
        while self._spare:
            with contextlib.suppress(asyncssh.ChannelOpenError):  # whether there is a place now, the next answer says
                session = await self._spare.pop(0)
                if session.is_fresh:
                    return session
                session.abort()
        return await self._opened()

    async def _opened(self) -> Session:
        session = Session(self._connection)
        await session.open()
        return session

    def _keep_spare(self) -> None:
        if self._started > 1 and self._has_room:
            for _ in range(min(SPARE, CHANNELS - self._used()) - len(self._spare)):
                task = asyncio.create_task(self._opened())
                task.add_done_callback(self._note)
                self._spare.append(task)

    def _note(self, task: asyncio.Task[Session]) -> None:
        if not task.cancelled() and isinstance(task.exception(), asyncssh.ChannelOpenError):
            self._has_room = False


class Session(asyncssh.SSHClientChannel[bytes]):
    """A session that is opened first, and gets its command later."""

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
        return self._recv_state == "open" and self._loop.time() < self._opened_at + FRESH

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


def _is_known(connection: Any) -> bool:
    """Whether asyncssh is as this needs it, and no more is wanted than a plain session."""
    if not all(hasattr(connection, name) for name in _CONNECTION):
        return False
    if not all(hasattr(asyncssh.SSHClientChannel, name) for name in _CHANNEL):
        return False
    options = connection._options
    return not (options.env or options.send_env or connection._agent_forward_path)
