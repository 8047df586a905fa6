"""Window adjustments that fleet reads itself, whatever comes between them and however it is cut."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from fleet.machine.patched.window import ADJUST, hear_window
from tests.ssh.inside import FarEnd, forget, window
from tests.sshd import connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Process = asyncssh.SSHClientProcess[bytes]


@contextlib.asynccontextmanager
async def process(cipher: str = "aes128-gcm@openssh.com", **options: Any) -> AsyncIterator[Process]:
    async with processes(1, cipher, **options) as (cat,):
        yield cat


@contextlib.asynccontextmanager
async def processes(count: int, cipher: str = "aes128-gcm@openssh.com", **options: Any) -> AsyncIterator[list[Process]]:
    """So many of them on one connection."""
    async with connected(cipher, **options) as connection:
        yield [await connection.create_process("cat", encoding=None) for _ in range(count)]


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
        channel = cat.channel
        assert hear_window(channel)
        kinds.clear()
        before, far = window(channel), FarEnd(channel)
        far.sends(far.opens(channel, 5) + far.opens(channel, 7))
        assert (window(channel) - before, kinds) == (12, [])


@pytest.mark.parametrize("seed", range(10))
async def test_everything_else_arrives_however_it_is_cut(seed: int) -> None:
    chance = random.Random(seed)
    async with process() as cat:
        channel = cat.channel
        assert hear_window(channel)
        before, far = window(channel), FarEnd(channel)
        stream, said, opened = b"", b"", 0
        for _ in range(60):
            if chance.random() < 0.6:
                count = chance.randrange(1, 100_000)
                opened += count
                stream += far.opens(channel, count)
            else:
                data = chance.randbytes(chance.randrange(1, 400))
                said += data
                stream += far.echoes(channel, data)
        while stream:
            cut = chance.choice([1, 3, 20, 51, 52, 53, 300, 5000])
            far.sends(stream[:cut])
            stream = stream[cut:]
        assert await cat.stdout.readexactly(len(said)) == said
        assert window(channel) - before == opened


async def test_a_packet_that_was_tampered_with_ends_the_connection() -> None:
    async with process() as cat:
        channel = cat.channel
        assert hear_window(channel)
        far = FarEnd(channel)
        packet = bytearray(far.opens(channel, 5))
        packet[-1] ^= 1
        before = window(channel)
        far.sends(bytes(packet))
        await asyncio.wait_for(cat.wait_closed(), 5)
        assert window(channel) == before


@pytest.mark.parametrize("payload", [bytes([ADJUST]), bytes([ADJUST, 0, 0, 0, 0, 0, 0, 0, 5, 9]), b""])
async def test_a_packet_that_is_no_adjustment_after_all_is_asyncsshs(payload: bytes) -> None:
    async with process() as cat:
        channel = cat.channel
        assert hear_window(channel)
        before, far = window(channel), FarEnd(channel)
        far.sends(far.says(payload))
        await asyncio.wait_for(cat.wait_closed(), 5)
        assert window(channel) == before


async def test_a_channel_that_is_gone_opens_nothing() -> None:
    async with process() as cat:
        channel, connection = cat.channel, cat.channel.get_connection()
        assert hear_window(channel)
        far = FarEnd(channel)
        adjustment = far.opens(channel, 5)
        forget(channel)
        far.sends(adjustment)
        await asyncio.wait_for(connection.wait_closed(), 5)  # asyncssh calls it a breach of the protocol


async def test_other_channels_of_the_connection_stay_asyncsshs(kinds: list[int]) -> None:
    async with processes(2) as (cat, dog):
        assert hear_window(cat.channel)
        other = dog.channel
        kinds.clear()
        before, far = window(other), FarEnd(other)
        far.sends(far.opens(other, 5))
        assert (window(other) - before, kinds) == (5, [ADJUST])


@pytest.mark.parametrize("options", [{"cipher": "aes128-ctr"}, {"compression_algs": ["zlib@openssh.com"]}])
async def test_what_it_cannot_read_it_leaves_alone(options: dict[str, Any]) -> None:
    async with process(**options) as cat:
        assert hear_window(cat.channel)
        cat.stdin.write(b"x" * 5_000_000)
        cat.stdin.write_eof()
        assert len(await cat.stdout.read()) == 5_000_000
