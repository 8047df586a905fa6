"""Sending much on an asyncssh channel with less work for each byte.

asyncssh 2.24 copies what it sends about eight times, and puts an empty packet before each one, which only CBC ciphers
need. For 1 GiB that is 1.15 s of CPU; sealing the packets of a block into one buffer takes 0.7 s, and OpenSSH's
client 1.2 s. A push is little else.

This reaches into asyncssh's channel and connection. Where anything is not as expected (another cipher, compression,
other names in another version) nothing is changed; while keys are exchanged, asyncssh sends by itself.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from typing import TYPE_CHECKING, Any

from asyncssh.encryption import GCMEncryption
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = 94
"""SSH_MSG_CHANNEL_DATA (RFC 4254)."""
WORTH = 1 << 18
"""Bytes that the window must have room for before more is sent, if there is more: sshd opens it by 40 KB at a time."""
DEAF = 0.004
"""Seconds between two looks at how far the window has opened. sshd tells it 25,000 times for 1 GB; to hear each by
itself takes a second of CPU."""
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
        self._worth = min(WORTH, channel._send_window // 8)

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
        connection = channel._conn
        if 0 < channel._send_window < min(self._worth, channel._send_buf_len):
            channel._pause_resume_writing()  # the window opens in small steps: wait until it is worth it
            _be_deaf(connection._transport)
        elif channel._send_buf and channel._send_window and connection is not None and _Sealer.fits(connection):
            sealer = _Sealer(connection, channel._send_chan, channel._send_pktsize)
            while channel._send_buf and channel._send_window:
                data, kind = channel._send_buf[0]
                size = min(len(data), channel._send_window)
                connection._send(sealer.seal(memoryview(data)[:size]))
                channel._send_window -= size
                channel._send_buf_len -= size
                if size < len(data):
                    channel._send_buf[0] = (memoryview(data)[size:], kind)
                else:
                    del channel._send_buf[0]
            sealer.close()
            self._slowly()
        else:  # asyncssh's own way cuts off the front of what it sends
            channel._send_buf[:] = [(bytearray(data), kind) for data, kind in channel._send_buf]
            self._slowly()


def _be_deaf(transport: asyncio.Transport | None) -> None:
    """What comes on the connection is read in `DEAF` seconds, all at once."""
    if transport is not None and transport.is_reading():
        transport.pause_reading()
        asyncio.get_running_loop().call_later(DEAF, transport.resume_reading)


class _Sealer:
    """Makes packets for one connection with its keys of this moment."""

    def __init__(self, connection: Any, channel: int, largest: int) -> None:
        self._connection = connection
        self._channel = channel
        self._largest = largest
        self._cipher = connection._send_encryption._cipher
        self._aes = AESGCM(self._cipher._key)
        self._fixed = self._cipher._iv[:4]
        self._count = int.from_bytes(self._cipher._iv[4:], "big")

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

    def seal(self, data: memoryview) -> memoryview:
        """The data as packets, ready for the socket."""
        connection, block = self._connection, self._connection._send_blocksize
        overhead = _LENGTH.size + _HEAD.size + block + 4 + TAG
        sealed = memoryview(bytearray(len(data) + -(-len(data) // self._largest) * overhead))
        end = 0
        for start in range(0, len(data), self._largest):
            part = data[start : start + self._largest]
            padding = -(_HEAD.size + len(part)) % block
            padding += block if padding < 4 else 0
            head = _HEAD.pack(padding, DATA, self._channel, len(part))
            packet = b"".join((head, part, os.urandom(padding)))
            length = _LENGTH.pack(len(packet))
            sealed[end : end + 4] = length
            after = end + 4 + len(packet) + TAG
            nonce = self._fixed + self._count.to_bytes(8, "big")
            self._aes.encrypt_into(nonce, packet, length, sealed[end + 4 : after])
            self._count = (self._count + 1) & 0xFFFFFFFFFFFFFFFF
            connection._send_seq = (connection._send_seq + 1) & 0xFFFFFFFF
            connection._rekey_bytes_sent += len(packet)
            end = after
        return sealed[:end]

    def close(self) -> None:
        """The connection's own packets go on where these ended."""
        self._cipher._iv = self._fixed + self._count.to_bytes(8, "big")
