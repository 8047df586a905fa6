"""How far the host's window has opened, heard with less work for each word of it.

While much is sent, sshd says 20,000 times for each GB that there is room for more. asyncssh 2.24 takes 30 microseconds
for each of these packets, which is a fifth of what a push costs; here it is 4. Everything else that comes is left to
asyncssh, packet by packet.

This reaches into asyncssh's connection as `bulk` does: where anything is not as expected, nothing is changed.
"""

from __future__ import annotations

import struct
from typing import Any

from asyncssh.encryption import GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ADJUST = 93
"""SSH_MSG_CHANNEL_WINDOW_ADJUST (RFC 4254)."""
TAG = 16
"""Bytes of AES-GCM after a packet."""
_ADJUSTMENT = struct.Struct(">BBII")
"""Padding length, message, channel, bytes."""
LONGEST = 32
"""Bytes of such a packet with its padding; a longer one is worth no guess."""
_CONNECTION = (
    "_auth_complete", "_channels", "_decompressor", "_inpbuf", "_recv_encryption", "_recv_handler", "_recv_pkthdr",
    "_recv_seq", "_transport", "data_received",
)  # fmt: skip
_CHANNEL = ("_flush_send_buf", "_recv_chan", "_recv_state", "_send_window")


def hear_window(channel: Any) -> bool:
    """Whether the channel learns quickly from now on how far its window has opened."""
    connection = channel._conn
    if not all(hasattr(channel, name) for name in _CHANNEL) or not all(
        hasattr(connection, name) for name in _CONNECTION
    ):
        return False
    ear = getattr(connection.data_received, "__self__", None)
    if not isinstance(ear, _Ear):
        ear = _Ear(connection)
        connection.data_received = ear.received
    ear.add(channel)
    return True


class _Ear:
    """Gets what comes on a connection before asyncssh does."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._pass_on = connection.data_received
        self._key = b""
        self._channels: dict[int, Any] = {}

    def add(self, channel: Any) -> None:
        """Adjustments of this channel's window are ours, until it is closed."""
        self._channels = {number: one for number, one in self._channels.items() if self._is_open(number, one)}
        self._channels[channel._recv_chan] = channel

    def received(self, data: bytes, datatype: Any = None) -> None:
        """See `asyncio.Protocol.data_received`."""
        while data and self._is_at_packet():
            data = self._without_adjustments(data)
            end = 4 + int.from_bytes(data[:4], "big") + TAG
            if end >= len(data):
                break
            self._pass_on(data[:end], datatype)  # after one that is something else, more of them may come
            data = data[end:]
        if data:
            self._pass_on(data, datatype)

    def _is_at_packet(self) -> bool:
        """Whether what comes next begins a packet, of a kind that can be read here."""
        connection = self._connection
        return (
            not connection._inpbuf
            and connection._recv_handler == connection._recv_pkthdr
            and type(connection._recv_encryption) is GCMEncryption
            and hasattr(connection._recv_encryption._cipher, "_iv")
            and hasattr(connection._recv_encryption._cipher, "_key")
            and connection._decompressor is None
            and connection._auth_complete
            and connection._transport is not None
        )

    def _is_open(self, number: int, channel: Any) -> bool:
        known = self._connection._channels.get(number) is channel
        return known and channel._recv_state in ("open", "eof_pending", "eof")

    def _without_adjustments(self, data: bytes) -> bytes:
        """The data from the first packet on that is none; those before it have been taken to heart."""
        connection = self._connection
        cipher = connection._recv_encryption._cipher
        if self._key != cipher._key:
            self._key, self._aes = cipher._key, AESGCM(cipher._key)
        fixed, first = cipher._iv[:4], int.from_bytes(cipher._iv[4:], "big")
        opened: dict[int, int] = {}
        start, count = 0, first
        while (end := start + 4 + int.from_bytes(data[start : start + 4], "big") + TAG) <= len(data):
            if end - start > 4 + LONGEST + TAG:
                break
            try:
                packet = self._aes.decrypt(_nonce(fixed, count), data[start + 4 : end], data[start : start + 4])
            except InvalidTag:
                break  # asyncssh finds that too, and ends the connection
            number, more = self._adjustment(packet)
            if not more:
                break
            opened[number] = opened.get(number, 0) + more
            count += 1
            start = end
        cipher._iv = _nonce(fixed, count)
        connection._recv_seq = (connection._recv_seq + count - first) & 0xFFFFFFFF
        for number, more in opened.items():
            channel = self._channels[number]
            channel._send_window += more
            channel._flush_send_buf()
        return data[start:]

    def _adjustment(self, packet: bytes) -> tuple[int, int]:
        """Which window is opened by how many bytes; by none where the packet is something else."""
        if len(packet) < _ADJUSTMENT.size or packet[1] != ADJUST or packet[0] != len(packet) - _ADJUSTMENT.size:
            return 0, 0
        _, _, number, more = _ADJUSTMENT.unpack_from(packet)
        return (number, more) if self._is_open(number, self._channels.get(number)) else (0, 0)


def _nonce(fixed: bytes, count: int) -> bytes:
    return fixed + (count & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big")
