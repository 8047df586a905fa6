"""Sending much on an asyncssh channel with less work for each byte.

asyncssh 2.24 copies what it sends about eight times, and puts an empty packet before each one, which only CBC ciphers
need. For 1 GiB that is 1.15 s of CPU, and 1.2 s in OpenSSH's client; here it is 0.5 s, half of it the kernel's. A push
is little else.

This reaches into asyncssh's channel and connection. Where anything is not as expected (another cipher, compression,
other names in another version) nothing is changed; while keys are exchanged, asyncssh sends by itself.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncssh.encryption import GCMEncryption
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fleet.machine.window import hear_window

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = 94
"""SSH_MSG_CHANNEL_DATA (RFC 4254)."""
WORTH = 1 << 18
"""Bytes that the window must have room for before more is sent, if there is more: sshd opens it by 40 KB at a time."""
DEAF = 0.001, 0.02
"""Seconds between two looks at how far the window has opened, at the least and at the most: the time in which it opens
by what is worth it. sshd tells it 20,000 times for 1 GB, and each look has its price."""
AHEAD = 1 << 19
"""Bytes that wait for the window to open, more or less: what opens is then filled at once."""
SENT = 1 << 18
"""Bytes that are sealed and sent at once."""
ROOM = SENT + (1 << 12)
"""What that takes as packets of 32 KiB."""
TAG = 16
"""Bytes that AES-GCM adds to a packet."""
_HEAD = struct.Struct(">BBII")
"""Padding length, message, channel, data length."""
_LENGTH = struct.Struct(">I")
_CHANNEL = (
    "_conn", "_flush_send_buf", "_pause_resume_writing", "_send_buf", "_send_buf_len", "_send_chan", "_send_pktsize",
    "_send_state", "_send_window",
)  # fmt: skip
_CONNECTION = (
    "_compressor", "_kex_complete", "_rekey_bytes", "_rekey_bytes_sent", "_rekey_seconds", "_rekey_time", "_send",
    "_send_blocksize", "_send_encryption", "_send_seq", "_transport",
)  # fmt: skip


def fast_write(channel: Any) -> Callable[[bytes | memoryview], None] | None:
    """What writes to the channel quickly; None where asyncssh is not as we know it.

    Nobody else may write to the channel, and what is written must not be changed afterwards.
    """
    if not all(hasattr(channel, name) for name in _CHANNEL) or not hasattr(AESGCM, "encrypt_into"):
        return None
    if not all(hasattr(channel._conn, name) for name in _CONNECTION) or not _Sealer.fits(channel._conn):
        return None
    return _Bulk(channel).write


class _Bulk:
    """Takes the place of one channel's own flushing, as long as it can."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._slowly = channel._flush_send_buf
        channel._flush_send_buf = self._flush
        channel.set_write_buffer_limits(AHEAD)
        self._worth = 1
        """Bytes that the window must have room for: at most an eighth of what it had at its widest."""
        self._sealer = _Sealer(channel._conn, channel._send_chan, channel._send_pktsize)
        self._clock = asyncio.get_running_loop().time
        self._last = self._clock()
        self._pace = 0.0
        """Seconds in which the host takes one byte."""
        hear_window(channel)

    def write(self, data: bytes | memoryview) -> None:
        """The data is sent as far as the host wants it now, the rest when it wants more."""
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
        self._worth = max(self._worth, min(WORTH, channel._send_window // 8))  # sshd opens none before the command runs
        if channel._send_window < min(self._worth, waiting):
            channel._pause_resume_writing()  # the window opens in small steps: wait until it is worth it
            _be_deaf(connection._transport, (self._worth - channel._send_window) * self._pace)
        elif waiting and connection is not None and _Sealer.fits(connection):
            self._send()
            if channel._send_buf:
                _be_deaf(connection._transport, self._worth * self._pace)
            self._slowly()
        else:  # asyncssh's own way cuts off the front of what it sends
            channel._send_buf[:] = [(bytearray(data), kind) for data, kind in channel._send_buf]
            self._slowly()

    def _send(self) -> None:
        """What the window has room for is sent."""
        channel, sent = self._channel, 0
        self._sealer.begin()
        while channel._send_buf and channel._send_window:
            data, kind = channel._send_buf[0]
            size = min(len(data), channel._send_window, SENT)
            self._sealer.send(memoryview(data)[:size])
            sent += size
            channel._send_window -= size
            channel._send_buf_len -= size
            if size < len(data):
                channel._send_buf[0] = (memoryview(data)[size:], kind)
            else:
                del channel._send_buf[0]
        self._sealer.end()
        now = self._clock()
        self._pace = (now - self._last) / sent
        self._last = now


def _be_deaf(transport: object, seconds: float) -> None:
    """What comes on the connection is read after about so many seconds, all at once; through a jump, as it comes."""
    least, most = DEAF
    if isinstance(transport, asyncio.Transport) and transport.is_reading() and seconds >= least:
        transport.pause_reading()
        asyncio.get_running_loop().call_later(min(seconds, most), transport.resume_reading)


class _Frame(NamedTuple):
    """What is around so many bytes of data in a packet."""

    data: int
    packet: int
    padding: int
    length: bytes
    head: bytes


class _Sealer:
    """Makes packets for one connection with its keys of this moment."""

    def __init__(self, connection: Any, channel: int, largest: int) -> None:
        self._connection = connection
        self._channel = channel
        self._largest = largest
        self._room = memoryview(bytearray())
        self._key = b""

    @staticmethod
    def fits(connection: Any) -> bool:
        """Whether packets can be made here now: the cipher is AES-GCM, and no keys are or have to be exchanged."""
        encryption = connection._send_encryption
        return (
            type(encryption) is GCMEncryption
            and hasattr(encryption._cipher, "_iv")
            and hasattr(encryption._cipher, "_key")
            and connection._compressor is None
            and connection._kex_complete
            and connection._rekey_bytes_sent < connection._rekey_bytes
            and not (connection._rekey_seconds and time.monotonic() >= connection._rekey_time)
        )

    def begin(self) -> None:
        """The packets go on where the connection's own ended."""
        self._cipher = self._connection._send_encryption._cipher
        if self._key != self._cipher._key:
            self._key = self._cipher._key
            self._aes = AESGCM(self._key)
        self._fixed = bytes(self._cipher._iv[:4])
        self._count = int.from_bytes(self._cipher._iv[4:], "big")

    def send(self, data: memoryview) -> None:
        """The data is with the socket as packets."""
        connection = self._connection
        connection._send(self._sealed(data))
        if connection._transport is None or connection._transport.get_write_buffer_size():
            self._room = memoryview(bytearray())  # it may be looked at once more

    def _sealed(self, data: memoryview) -> memoryview:
        """The data as packets, in the room that the next ones will be in too."""
        connection, largest = self._connection, self._largest
        total = len(data) + -(-len(data) // largest) * (
            _LENGTH.size + _HEAD.size + connection._send_blocksize + 4 + TAG
        )
        if len(self._room) < total:
            self._room = memoryview(bytearray(max(total, ROOM)))
        room, count, end = self._room, self._count, 0
        chance = os.urandom(connection._send_blocksize + 4)
        frame = self._frame(min(len(data), largest))
        for start in range(0, len(data), largest):
            part = data[start : start + largest]
            if len(part) != frame.data:
                frame = self._frame(len(part))
            after = end + _LENGTH.size + frame.packet + TAG
            room[end : end + _LENGTH.size] = frame.length
            packet = b"".join((frame.head, part, chance[: frame.padding]))
            self._aes.encrypt_into(self._nonce(count), packet, frame.length, room[end + _LENGTH.size : after])
            end = after
            count += 1
        connection._send_seq = (connection._send_seq + count - self._count) & 0xFFFFFFFF
        connection._rekey_bytes_sent += end
        self._count = count
        return room[:end]

    def _frame(self, size: int) -> _Frame:
        block = self._connection._send_blocksize
        padding = -(_HEAD.size + size) % block
        padding += block if padding < 4 else 0
        packet = _HEAD.size + size + padding
        return _Frame(size, packet, padding, _LENGTH.pack(packet), _HEAD.pack(padding, DATA, self._channel, size))

    def _nonce(self, count: int) -> bytes:
        return self._fixed + (count & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big")

    def end(self) -> None:
        """The connection's own packets go on where these ended."""
        self._cipher._iv = self._nonce(self._count)
