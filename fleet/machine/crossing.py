"""Count what was given to a connection and has not reached the other end."""

from __future__ import annotations

import contextlib
import fcntl
import struct
import termios
from typing import Any


def bytes_waiting(channel: Any) -> int:
    """Return how many bytes wait on this machine for the other end, by what asyncssh, asyncio and the kernel hold.

    The kernel counts what TCP has not been told to have arrived. On a slow link that may be all of a small push, long
    after it was written. Through a jump host the way to that host counts. A connection that is closed has none.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError, AssertionError):
        connection = channel.get_connection()
        waiting: int = channel.get_write_buffer_size()
        transport = getattr(connection, "_transport", None)
        if transport is not None:
            waiting += transport.get_write_buffer_size()
        sock = connection.get_extra_info("socket")
        return waiting if sock is None else waiting + _unacknowledged(sock.fileno())
    return 0


def _unacknowledged(number: int) -> int:
    """Return how many bytes of a TCP socket the other end has not acknowledged."""
    (count,) = struct.unpack("i", fcntl.ioctl(number, termios.TIOCOUTQ, bytes(4)))
    return int(count)
