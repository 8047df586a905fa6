"""Open a session before its command is known, and start the command without waiting for the host's answer.

asyncssh opens a session (one round trip), asks for the command (two), and lets the input go (three). Here these are two
calls, and the second one takes no round trip: the host's answer is read when it comes, and if it is a no, the session
ends.

This is a channel of asyncssh's with two methods replaced. `create` does the rest, as for any other channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncssh

from fleet.machine import patched
from fleet.machine.patched.privates import STARTING

if TYPE_CHECKING:
    import asyncio

    from asyncssh.packet import SSHPacket

Process = asyncssh.SSHClientProcess[bytes]
WINDOW, PACKET = 2 << 20, 32 << 10
"""Bytes that the host may send unasked, and in one packet. The values are asyncssh's own."""
FRESH = 20.0
"""Seconds for which an open session is used. A host may close sessions in which nothing happens (sshd's
ChannelTimeout)."""


def can_open(connection: Any) -> bool:
    """Whether asyncssh may be patched and is as this file needs it, and a plain session is all that is wanted.

    ~/.ssh/config may ask for more than that.
    """
    if not patched.is_on() or not STARTING.are_in(connection):
        return False
    options = connection._options
    return not (options.env or options.send_env or connection._agent_forward_path)


class Session(asyncssh.SSHClientChannel[bytes]):
    """A session on a connection for which `can_open` is true."""

    def __init__(self, connection: Any) -> None:
        connection._update_recv_pktlen(PACKET)
        super().__init__(connection, connection._loop, connection._utf8_decode_errors, None, "strict", WINDOW, PACKET)
        self.is_refused = False
        """Whether the host would not run the command."""
        self._opened_at = 0.0

    async def open(self) -> None:
        """Open the session. Raise `asyncssh.ChannelOpenError` if the host has no place for it."""
        self._confirmation = await super()._open(b"session")
        self._opened_at = self._loop.time()

    @property
    def is_fresh(self) -> bool:
        """Whether it can still be used."""
        is_open = self._recv_state == "open" and self._send_state == "open"
        return is_open and self._loop.time() < self._opened_at + FRESH

    async def start(self, line: str) -> Process:
        """Ask for the command, and return it as a process. Raise `asyncssh.ConnectionLost`."""
        if self._conn is None:  # lost since the session was opened; asyncssh does not check
            raise asyncssh.ConnectionLost("connection lost")
        nothing: tuple[Any, ...] = (None, {}, False, None, None, {}, False, None, None, False, False)
        process: Any = await self.create(asyncssh.SSHClientProcess, line, *nothing)
        await process.redirect(asyncssh.PIPE, asyncssh.PIPE, asyncssh.PIPE)
        return process  # type: ignore[no-any-return]

    async def _open(self, chantype: bytes, *args: bytes) -> SSHPacket:  # noqa: ARG002
        return self._confirmation  # `open` has opened it

    async def _make_request(self, request: bytes, *args: bytes) -> bool:
        """Send the request, and assume that the host grants it."""
        reply = self._loop.create_future()
        reply.add_done_callback(self._replied)
        self._request_waiters.append(reply)
        self._send_request(request, *args, want_reply=True)
        return True

    def _replied(self, reply: asyncio.Future[bool]) -> None:
        if not reply.cancelled() and reply.exception() is None and not reply.result() and self._recv_state == "open":
            self.is_refused = True
            self.abort()


def of(process: Process) -> Session:
    """Return the session in which `Session.start` started the process."""
    assert isinstance(process.channel, Session)
    return process.channel


def is_refused(process: Process) -> bool:
    """Whether the process has no exit status because the host would not run it."""
    return isinstance(process.channel, Session) and process.channel.is_refused
