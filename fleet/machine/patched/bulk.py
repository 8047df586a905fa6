"""Send much on an asyncssh channel with less work per byte.

asyncssh 2.24 copies what it sends about eight times, and puts an empty packet before each packet, which only CBC
ciphers need. For 1 GiB that takes 1.15 s of CPU time, about as much as OpenSSH's client (1.2 s); here it takes 0.5 s,
half of it in the kernel. A push does little else.

This replaces the `_flush_send_buf` of one channel, which asyncssh calls when data was written and when the window has
opened, and hands what may be sent to `packets`. Whenever that does not fit (another cipher, compression, a key
exchange) asyncssh's own function sends from the same buffer, and may do so for any number of calls before we go on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fleet.machine.patched.packets import LARGEST, Sealer
from fleet.machine.patched.privates import CIPHER, COUNTER, SEALING, SENDING
from fleet.machine.patched.window import hear_window

if TYPE_CHECKING:
    from collections.abc import Callable

WORTH = 1 << 18
"""Bytes of room in the window that are worth sending for, if there is more to send: sshd opens it by 40 KB at a
time."""
DEAF = 0.001, 0.02
"""The least and the most seconds between two looks at how far the window has opened; the time depends on how fast it
opens. sshd announces it 20,000 times for 1 GB, and each look has its price."""
AHEAD = 1 << 19
"""About how many bytes wait for the window to open, so that room in it is filled at once."""


def fast_write(channel: Any) -> Callable[[bytes | memoryview], None] | None:
    """See `patched.fast_write`."""
    if not hasattr(AESGCM, "encrypt_into") or not SENDING.are_in(channel):
        return None
    connection = channel._conn
    if not SEALING.are_in(connection) or not Sealer.fits(connection):
        return None
    encryption = connection._send_encryption
    if not CIPHER.are_in(encryption) or not COUNTER.are_in(encryption._cipher):
        return None
    return _Bulk(channel).write


class _Bulk:
    """Replaces the flushing of one channel, for as long as it can."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._slowly = channel._flush_send_buf
        channel._flush_send_buf = self._flush
        channel.set_write_buffer_limits(AHEAD)
        self._worth = 1
        """Bytes of room in the window that are worth sending for: at most an eighth of the widest that it has been."""
        self._sealer = Sealer(channel._conn, channel._send_chan, channel._send_pktsize)
        self._clock = asyncio.get_running_loop().time
        self._last = self._clock()
        self._pace = 0.0
        """Seconds that the host takes for one byte."""
        hear_window(channel)

    def write(self, data: bytes | memoryview) -> None:
        """Send as much of the data as the host has room for, and the rest when it has room for more.

        Raise `BrokenPipeError` if the channel is closed.
        """
        channel = self._channel
        if channel._send_state != "open":
            raise BrokenPipeError("channel not open for sending")
        if len(data):
            channel._send_buf.append((memoryview(data), None))
            channel._send_buf_len += len(data)
            self._flush()

    def _flush(self) -> None:
        channel = self._channel
        connection, waiting = channel._conn, channel._send_buf_len
        self._worth = max(self._worth, min(WORTH, channel._send_window // 8))  # it is 0 before the command runs
        if channel._send_window < min(self._worth, waiting):
            channel._pause_resume_writing()  # the window opens in small steps: wait until it is worth it
            _be_deaf(connection._transport, (self._worth - channel._send_window) * self._pace)
        elif waiting and connection is not None and Sealer.fits(connection):
            self._send()
            if channel._send_buf:
                _be_deaf(connection._transport, self._worth * self._pace)
            self._slowly()
        else:  # asyncssh's own function deletes from the front of each entry, which needs a bytearray
            channel._send_buf[:] = [(bytearray(data), kind) for data, kind in channel._send_buf]
            self._slowly()

    def _send(self) -> None:
        """Send what the window has room for."""
        channel, sent = self._channel, 0
        while channel._send_buf and channel._send_window:
            data, kind = channel._send_buf[0]
            size = min(len(data), channel._send_window, LARGEST)
            self._sealer.send(memoryview(data)[:size])
            sent += size
            channel._send_window -= size
            channel._send_buf_len -= size
            if size < len(data):
                channel._send_buf[0] = (memoryview(data)[size:], kind)
            else:
                del channel._send_buf[0]
        now = self._clock()
        self._pace = (now - self._last) / sent
        self._last = now


def _be_deaf(transport: object, seconds: float) -> None:
    """Read what comes on the connection only after about so many seconds, all at once.

    Through a jump host, read it as it comes.
    """
    least, most = DEAF
    if isinstance(transport, asyncio.Transport) and transport.is_reading() and seconds >= least:
        transport.pause_reading()
        asyncio.get_running_loop().call_later(min(seconds, most), transport.resume_reading)
