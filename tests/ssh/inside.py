"""asyncssh from the inside, for tests of what `fleet/machine/patched` does there. No other test knows its privates."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from asyncssh.packet import Byte, UInt32
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fleet.machine.patched.window import ADJUST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import asyncssh

DATA = 94


class FarEnd:
    """The other end of a channel's connection: makes the packets that come from there, with the keys of this moment."""

    def __init__(self, channel: Any) -> None:
        self.sends: Callable[[bytes], None] = channel.get_connection().data_received
        """What comes from there."""
        cipher = channel.get_connection()._recv_encryption._cipher
        self._aes, self._fixed = AESGCM(cipher._key), cipher._iv[:4]
        self._count = int.from_bytes(cipher._iv[4:], "big")

    def says(self, payload: bytes) -> bytes:
        """A packet with this payload."""
        padding = 4 + -(1 + len(payload) + 4) % 16
        packet = bytes([padding]) + payload + bytes(padding)
        length = len(packet).to_bytes(4, "big")
        nonce = self._fixed + self._count.to_bytes(8, "big")
        self._count += 1
        return length + self._aes.encrypt(nonce, packet, length)

    def opens(self, channel: Any, count: int) -> bytes:
        """A packet that opens the channel's window by so many bytes."""
        return self.says(Byte(ADJUST) + UInt32(channel._recv_chan) + UInt32(count))

    def echoes(self, channel: Any, data: bytes) -> bytes:
        """A packet with the data for the channel."""
        return self.says(Byte(DATA) + UInt32(channel._recv_chan) + UInt32(len(data)) + data)


def window(channel: Any) -> int:
    """Bytes that the host has room for on the channel."""
    room: int = channel._send_window
    return room


def close_window(channel: Any) -> int:
    """The host seems to have no room on the channel; gives how much it has."""
    room, channel._send_window = window(channel), 0
    return room


def open_window(channel: Any, count: int) -> None:
    """The host has said that it has so much more room on the channel, for all that asyncssh knows."""
    channel._send_window += count
    channel._flush_send_buf()


def forget(channel: Any) -> None:
    """The connection knows the channel no more."""
    del channel.get_connection()._channels[channel._recv_chan]


def break_transport(connection: Any, *, at: int) -> None:
    """The call with this number, of those that give bytes to the connection's transport, raises `RuntimeError`."""
    connection._transport = _Broken(connection._transport, at)


@contextlib.contextmanager
def held_back(connection: Any) -> Iterator[None]:
    """What the connection writes meanwhile is sent at the end, and until then only looked at."""
    transport = connection._transport
    connection._transport = slow = _Slow(transport)
    yield
    connection._transport = transport
    for data in slow.waiting:
        transport.write(bytes(data))


class _Slow:
    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.waiting: list[memoryview] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self.waiting.append(memoryview(data))

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.waiting))


class _Broken:
    def __init__(self, transport: Any, at: int) -> None:
        self._transport = transport
        self._left = at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._left -= 1
        if self._left == 0:
            raise RuntimeError("the transport fails")
        self._transport.write(data)


class Lacking:
    """A channel or a connection of another asyncssh, where one name is not there."""

    def __init__(self, of: Any, name: str) -> None:
        self._of = of
        self._name = name

    def __getattr__(self, asked: str) -> Any:
        if asked == self._name:
            raise AttributeError(asked)
        found = getattr(self._of, asked)
        return Lacking(found, self._name) if asked in ("_conn", "_send_encryption", "_cipher") else found


def parts(process: asyncssh.SSHClientProcess[bytes]) -> dict[str, object]:
    """The objects that have private names that we use, by the classes of `privates.py`."""
    channel: Any = process.channel
    connection = channel._conn
    encryption = connection._send_encryption
    return {
        "channel.SSHChannel": channel,
        "channel.SSHClientChannel": channel,
        "connection.SSHConnection": connection,
        "connection.SSHClientConnection": connection,
        "encryption.GCMEncryption": encryption,
        "crypto.cipher.GCMCipher": encryption._cipher,
    }


class Recorded:
    """In place of `AESGCM`: keeps each pair of key and nonce that something was sealed with, and by which function."""

    def __init__(self) -> None:
        self.sealed: list[tuple[bytes, bytes]] = []
        self.by: dict[bytes, set[str]] = {}
        """For each key, which of `encrypt` (asyncssh's way) and `encrypt_into` (ours) sealed with it."""
        self.before_sealing: Callable[[], None] = lambda: None
        """Called before `encrypt_into` seals a packet; may raise."""

    def __call__(self, key: bytes) -> Any:
        return _Recording(self, key)

    def used_twice(self) -> list[tuple[bytes, bytes]]:
        """The pairs that something was sealed with more than once."""
        return [pair for pair, times in Counter(self.sealed).items() if times > 1]

    def note(self, key: bytes, nonce: bytes, function: str) -> None:
        """Something is about to be sealed with them."""
        self.sealed.append((bytes(key), bytes(nonce)))
        self.by.setdefault(bytes(key), set()).add(function)


class _Recording:
    def __init__(self, record: Recorded, key: bytes) -> None:
        self._record, self._key, self._aes = record, key, AESGCM(key)

    def encrypt(self, nonce: bytes, data: bytes, header: bytes) -> bytes:
        self._record.note(self._key, nonce, "encrypt")
        return self._aes.encrypt(nonce, data, header)

    def encrypt_into(self, nonce: bytes, data: bytes, header: bytes, into: memoryview) -> int:
        self._record.before_sealing()
        self._record.note(self._key, nonce, "encrypt_into")
        return self._aes.encrypt_into(nonce, data, header, into)

    def decrypt(self, nonce: bytes, data: bytes, header: bytes) -> bytes:
        return self._aes.decrypt(nonce, data, header)
