"""Window adjustments that fleet reads itself, whatever comes between them and however it is cut."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest
from asyncssh.packet import Byte, UInt32
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fleet.machine.window import ADJUST, hear_window
from tests.sshd import connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Process = asyncssh.SSHClientProcess[bytes]


@contextlib.asynccontextmanager
async def process(cipher: str = "aes128-gcm@openssh.com", **options: Any) -> AsyncIterator[Process]:
    async with connected(cipher, **options) as connection:
        yield await connection.create_process("cat", encoding=None)


class Host:
    """The other end of a connection: makes the packets that come from there."""

    def __init__(self, connection: Any) -> None:
        cipher = connection._recv_encryption._cipher
        self._aes, self._fixed = AESGCM(cipher._key), cipher._iv[:4]
        self._count = int.from_bytes(cipher._iv[4:], "big")

    def says(self, payload: bytes) -> bytes:
        padding = 4 + -(1 + len(payload) + 4) % 16
        packet = bytes([padding]) + payload + bytes(padding)
        length = len(packet).to_bytes(4, "big")
        nonce = self._fixed + self._count.to_bytes(8, "big")
        self._count += 1
        return length + self._aes.encrypt(nonce, packet, length)

    def opens(self, channel: Any, count: int) -> bytes:
        return self.says(Byte(ADJUST) + UInt32(channel._recv_chan) + UInt32(count))

    def echoes(self, channel: Any, data: bytes) -> bytes:
        return self.says(Byte(94) + UInt32(channel._recv_chan) + UInt32(len(data)) + data)


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The kinds of the packets that asyncssh reads."""
    noticed: list[int] = []
    theirs = asyncssh.SSHClientChannel.process_packet

    def noted(self: Any, kind: int, number: int, packet: Any) -> Any:
        noticed.append(kind)
        return theirs(self, kind, number, packet)

    monkeypatch.setattr(asyncssh.SSHClientChannel, "process_packet", noted)
    return noticed


async def test_adjustments_open_the_window_and_asyncssh_sees_none(kinds: list[int]) -> None:
    async with process() as cat:
        channel: Any = cat.channel
        assert hear_window(channel)
        kinds.clear()
        before, host = channel._send_window, Host(channel._conn)
        channel._conn.data_received(host.opens(channel, 5) + host.opens(channel, 7))
        assert (channel._send_window - before, kinds) == (12, [])


@pytest.mark.parametrize("seed", range(10))
async def test_everything_else_arrives_however_it_is_cut(seed: int) -> None:
    chance = random.Random(seed)
    async with process() as cat:
        channel: Any = cat.channel
        assert hear_window(channel)
        before, host = channel._send_window, Host(channel._conn)
        stream, said, opened = b"", b"", 0
        for _ in range(60):
            if chance.random() < 0.6:
                count = chance.randrange(1, 100_000)
                opened += count
                stream += host.opens(channel, count)
            else:
                data = chance.randbytes(chance.randrange(1, 400))
                said += data
                stream += host.echoes(channel, data)
        while stream:
            cut = chance.choice([1, 3, 20, 51, 52, 53, 300, 5000])
            channel._conn.data_received(stream[:cut])
            stream = stream[cut:]
        assert await cat.stdout.readexactly(len(said)) == said
        assert channel._send_window - before == opened


async def test_a_packet_that_was_tampered_with_ends_the_connection() -> None:
    async with process() as cat:
        channel: Any = cat.channel
        assert hear_window(channel)
        host = Host(channel._conn)
        packet = bytearray(host.opens(channel, 5))
        packet[-1] ^= 1
        before = channel._send_window
        channel._conn.data_received(bytes(packet))
        await asyncio.wait_for(cat.wait_closed(), 5)
        assert channel._send_window == before


@pytest.mark.parametrize("payload", [bytes([ADJUST]), bytes([ADJUST, 0, 0, 0, 0, 0, 0, 0, 5, 9]), b""])
async def test_a_packet_that_is_no_adjustment_after_all_is_asyncsshs(payload: bytes) -> None:
    async with process() as cat:
        channel: Any = cat.channel
        assert hear_window(channel)
        before = channel._send_window
        channel._conn.data_received(Host(channel._conn).says(payload))
        await asyncio.wait_for(cat.wait_closed(), 5)
        assert channel._send_window == before


async def test_a_channel_that_is_gone_opens_nothing() -> None:
    async with process() as cat:
        channel: Any = cat.channel
        connection, number = channel._conn, channel._recv_chan
        assert hear_window(channel)
        host = Host(connection)
        del connection._channels[number]
        connection.data_received(host.opens(channel, 5))
        await asyncio.wait_for(connection.wait_closed(), 5)  # asyncssh calls it a breach of the protocol


async def test_other_channels_of_the_connection_stay_asyncsshs(kinds: list[int]) -> None:
    async with process() as cat:
        connection: Any = cat.channel.get_connection()
        other = (await connection.create_process("cat", encoding=None)).channel
        assert hear_window(cat.channel)
        kinds.clear()
        before = other._send_window
        other._conn.data_received(Host(other._conn).opens(other, 5))
        assert (other._send_window - before, kinds) == (5, [ADJUST])


@pytest.mark.parametrize("options", [{"cipher": "aes128-ctr"}, {"compression_algs": ["zlib@openssh.com"]}])
async def test_what_it_cannot_read_it_leaves_alone(options: dict[str, Any]) -> None:
    async with process(**options) as cat:
        assert hear_window(cat.channel)
        cat.stdin.write(b"x" * 5_000_000)
        cat.stdin.write_eof()
        assert len(await cat.stdout.read()) == 5_000_000


@pytest.mark.parametrize("name", ["_recv_handler", "_inpbuf"])
async def test_an_asyncssh_that_we_do_not_know_is_left_alone(name: str) -> None:
    async with process() as cat:
        channel: Any = cat.channel

        class Other:
            def __init__(self, of: Any) -> None:
                self.of = of

            def __getattr__(self, asked: str) -> Any:
                if asked == name:
                    raise AttributeError(asked)
                return Other(self.of._conn) if asked == "_conn" else getattr(self.of, asked)

        assert not hear_window(Other(channel))
