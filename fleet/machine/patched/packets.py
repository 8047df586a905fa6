"""Seal packets of channel data for one connection with AES-GCM, in place of asyncssh's `send_packet`.

AES-GCM is broken by one nonce that is used twice under one key: whoever sees both packets learns the difference of
their contents, and can forge others from then on. This is what the file has to get right before all else.

In SSH (RFC 5647, and OpenSSH for `aes128-gcm@openssh.com`) the nonce is 4 fixed bytes and a counter of 8. A key
exchange makes a new key, new fixed bytes and a new first value of the counter, for each direction; every packet takes
the next value. Here:

- **One counter.** The nonce of the next packet is stored in one place, asyncssh's own `GCMCipher._iv`. No copy of it
  outlives a call. asyncssh's packets and ours take from the same counter, in whatever order they come.
- **Reserved before used.** `_reserve` moves that counter past all nonces that a call will need, before it seals the
  first packet. If anything fails in between (no memory, a transport that raises), the nonces that were not used are
  lost: the host, which counts too, refuses the next packet, and the connection ends. They are never used again.
- **Key and counter belong together.** Both are read from one `GCMCipher` in one call. A key exchange replaces that
  object by one with a new key; nobody keeps the old one and its counter. Nothing is awaited between the reading and
  the sealing, and a connection belongs to one thread, that of its event loop.
- **Keys are exchanged as often.** `fits` returns False as soon as asyncssh would begin a key exchange (after 1 GiB, by
  default), and for as long as one is under way. asyncssh itself then sends the data, or keeps it until the new keys
  are there. Bytes sent here count towards the limit.

tests/ssh/test_nonces.py records all pairs of key and nonce of connections that push, exchange keys, run commands in
between and fail in the middle. What must be checked at an upgrade is in `privates.py`, at `SEALING`, `CIPHER`,
`COUNTER`.
"""

from __future__ import annotations

import os
import struct
import time
from typing import Any, NamedTuple

from asyncssh.encryption import GCMEncryption
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DATA = 94
"""SSH_MSG_CHANNEL_DATA (RFC 4254)."""
LARGEST = 1 << 18
"""The most bytes that `Sealer.send` takes at once."""
TAG = 16
"""Bytes that AES-GCM adds to a packet."""
_ROOM = LARGEST + (1 << 12)
"""What `LARGEST` takes as packets of 32 KiB."""
_HEAD = struct.Struct(">BBII")
"""Padding length, message, channel, data length."""
_LENGTH = struct.Struct(">I")
_COUNTER = 1 << 64


def nonce(fixed: bytes, count: int) -> bytes:
    """Return the nonce with this value of the counter, which wraps around as asyncssh's does."""
    return fixed + (count % _COUNTER).to_bytes(8, "big")


class _Frame(NamedTuple):
    """What surrounds a given number of data bytes in a packet."""

    data: int
    packet: int
    padding: int
    length: bytes
    head: bytes


class Sealer:
    """Sends data of one channel as packets, with the keys that the connection has at that moment."""

    def __init__(self, connection: Any, channel: int, largest: int) -> None:
        """`largest` is how many bytes of data the host takes in one packet."""
        self._connection = connection
        self._channel = channel
        self._largest = largest
        self._room = memoryview(bytearray())
        self._key = b""

    @staticmethod
    def fits(connection: Any) -> bool:
        """Whether packets can be made here now: the cipher is AES-GCM, and no key exchange is due or under way."""
        encryption = connection._send_encryption
        return (
            type(encryption) is GCMEncryption
            and connection._compressor is None
            and connection._kex_complete
            and connection._rekey_bytes_sent < connection._rekey_bytes
            and not (connection._rekey_seconds and time.monotonic() >= connection._rekey_time)
        )

    def send(self, data: memoryview) -> None:
        """Hand the data, at most `LARGEST` bytes, to the transport. Call this only while the connection `fits`."""
        connection = self._connection
        connection._send(self._sealed(data))
        if connection._transport is None or connection._transport.get_write_buffer_size():
            self._room = memoryview(bytearray())  # the transport still needs the old one

    def _sealed(self, data: memoryview) -> memoryview:
        """Return the data as packets, in a buffer that the next call uses again."""
        largest = self._largest
        packets = -(-len(data) // largest)
        fixed, count = self._reserve(packets)
        chance = os.urandom(self._connection._send_blocksize + 4)
        around = _LENGTH.size + _HEAD.size + len(chance) + TAG
        room, end = self._room_for(len(data) + packets * around), 0
        frame = self._frame(min(len(data), largest))
        for start in range(0, len(data), largest):
            part = data[start : start + largest]
            if len(part) != frame.data:
                frame = self._frame(len(part))
            after = end + _LENGTH.size + frame.packet + TAG
            room[end : end + _LENGTH.size] = frame.length
            packet = b"".join((frame.head, part, chance[: frame.padding]))
            self._aes.encrypt_into(nonce(fixed, count), packet, frame.length, room[end + _LENGTH.size : after])
            end = after
            count += 1
        self._connection._rekey_bytes_sent += end
        return room[:end]

    def _reserve(self, packets: int) -> tuple[bytes, int]:
        """Reserve the next nonces for the caller.

        Return their fixed bytes and the counter of the first; `_aes` has their key.
        """
        cipher = self._connection._send_encryption._cipher
        if self._key != cipher._key:
            self._key, self._aes = cipher._key, AESGCM(cipher._key)
        fixed, first = bytes(cipher._iv[:4]), int.from_bytes(cipher._iv[4:], "big")
        cipher._iv = nonce(fixed, first + packets)
        self._connection._send_seq = (self._connection._send_seq + packets) & 0xFFFFFFFF
        return fixed, first

    def _room_for(self, total: int) -> memoryview:
        if len(self._room) < total:
            self._room = memoryview(bytearray(max(total, _ROOM)))
        return self._room

    def _frame(self, size: int) -> _Frame:
        block = self._connection._send_blocksize
        padding = -(_HEAD.size + size) % block
        padding += block if padding < 4 else 0
        packet = _HEAD.size + size + padding
        return _Frame(size, packet, padding, _LENGTH.pack(packet), _HEAD.pack(padding, DATA, self._channel, size))
