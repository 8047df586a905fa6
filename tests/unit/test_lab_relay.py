"""The slow link of the lab."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

import pytest

from fleet.lab.relay import Direction, Relay, delay, rate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def link(
    *, rate: float = 0.0, delay: float = 0.0, cuts: tuple[int, ...] = ()
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection through a relay to a server that sends back what comes."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while block := await reader.read(1 << 16):
                writer.write(block)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    relay = Relay(server.sockets[0].getsockname()[1], Direction(rate, delay), Direction(0.0, delay), deque(cuts))
    front = await relay.serve(0)
    reader, writer = await asyncio.open_connection("127.0.0.1", front.sockets[0].getsockname()[1])
    try:
        yield reader, writer
    finally:
        writer.close()
        front.close()
        server.close()
        await asyncio.gather(*relay._tasks, return_exceptions=True)


async def test_bytes_come_out_as_they_went_in() -> None:
    sent = bytes(range(256)) * 5000
    async with link(rate=40e6) as (reader, writer):
        writer.write(sent)
        writer.write_eof()
        assert await reader.read(-1) == sent


async def test_the_rate_is_kept() -> None:
    loop = asyncio.get_running_loop()
    async with link(rate=1e6) as (reader, writer):
        started = loop.time()
        writer.write(bytes(300_000))
        await reader.readexactly(300_000)
        assert 0.29 <= loop.time() - started < 1.0


async def test_the_delay_counts_once_each_way_and_not_for_each_block() -> None:
    loop = asyncio.get_running_loop()
    async with link(delay=0.05) as (reader, writer):
        started = loop.time()
        for _ in range(50):
            writer.write(bytes(1000))
            await writer.drain()
        await reader.readexactly(50_000)
        assert 0.1 <= loop.time() - started < 0.6


async def test_a_cut_ends_the_connection_within_that_many_bytes() -> None:
    async with link(cuts=(1000,)) as (reader, writer):
        writer.write(bytes(5000))
        with contextlib.suppress(ConnectionResetError):
            assert len(await reader.read(-1)) <= 1000


@pytest.mark.parametrize(
    ("text", "bytes_a_second"), [("10mbit", 1.25e6), ("8kbit", 1e3), ("1.5mbit", 187500), ("99", 99)]
)
def test_rates_are_read(text: str, bytes_a_second: float) -> None:
    assert rate(text) == bytes_a_second


def test_delays_are_read() -> None:
    assert (delay("25ms"), delay("0.5s")) == (0.025, 0.5)
    for wrong in ("25min", "fast", "-1ms"):
        with pytest.raises(argparse.ArgumentTypeError, match="units"):
            delay(wrong)
