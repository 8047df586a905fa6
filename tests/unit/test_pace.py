"""A cap on bytes per second holds, for one link and for all together."""

from __future__ import annotations

import asyncio

import pytest

from fleet.machine import Output
from fleet.machine.pace import LARGEST, SLICE, SMALLEST, Pace, PacedStream
from tests.fakes import in_no_time


class Sink:
    """A stream that takes everything at once, and remembers when."""

    def __init__(self) -> None:
        self.came: list[tuple[float, bytes]] = []

    async def read(self, count: int) -> bytes:
        return b"x" * count

    async def write(self, data: bytes | memoryview) -> None:
        self.came.append((asyncio.get_running_loop().time(), bytes(data)))

    waiting = 0

    async def ended(self) -> Output:
        return Output(status=0)

    @property
    def bytes(self) -> bytes:
        return b"".join(data for _, data in self.came)


def most_in(seconds: float, *sinks: Sink) -> int:
    """The most bytes that came to all of them in any such time."""
    came = sorted((when, len(data)) for sink in sinks for when, data in sink.came)
    return max(sum(size for when, size in came if start <= when < start + seconds) for start, _ in came)


@pytest.mark.parametrize("rate", [1e3, 2e6, 1e9])
def test_no_time_sees_more_than_its_bytes_and_little_more(rate: float) -> None:
    @in_no_time
    async def test() -> None:
        sink, pace = Sink(), Pace(rate)
        data = bytes(range(256)) * 4096
        start = asyncio.get_running_loop().time()
        await PacedStream(sink, pace).write(data)
        assert sink.bytes == data
        took = asyncio.get_running_loop().time() - start
        assert took == pytest.approx(max(0, (len(data) - len(sink.came[-1][1])) / rate - SLICE), abs=1e-6)
        for seconds in (SLICE, 1.0, 10.0):
            assert most_in(seconds, sink) <= (seconds + SLICE) * rate + pace.portion

    test()


@pytest.mark.parametrize(("rate", "portion"), [(1e3, SMALLEST), (1e6, 1e5), (1e9, LARGEST)])
def test_portions_are_neither_tiny_nor_huge(rate: float, portion: int) -> None:
    assert Pace(rate).portion == portion
    assert Pace(1e9, within=Pace(rate)).portion == portion


@in_no_time
async def test_rest_is_not_made_up_for() -> None:
    sink, pace = Sink(), Pace(1e6)
    stream = PacedStream(sink, pace)
    await stream.write(bytes(100_000))
    await asyncio.sleep(3600)
    await stream.write(bytes(3_000_000))
    assert most_in(1.0, sink) <= (1.0 + SLICE) * 1e6 + pace.portion


@in_no_time
async def test_timers_that_are_late_do_not_make_it_slow() -> None:
    class Late(Sink):
        async def write(self, data: bytes | memoryview) -> None:
            await super().write(data)
            await asyncio.sleep(0.0005)

    sink = Late()
    start = asyncio.get_running_loop().time()
    await PacedStream(sink, Pace(100e6)).write(bytes(100_000_000))
    assert asyncio.get_running_loop().time() - start == pytest.approx(1.0, rel=0.11)


@in_no_time
async def test_all_links_together_keep_to_the_cap_of_the_fleet_and_share_it() -> None:
    fleet = Pace(3e6)
    sinks = [Sink() for _ in range(6)]
    streams = [PacedStream(sink, Pace(2e6, within=fleet) if number < 3 else fleet) for number, sink in enumerate(sinks)]
    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        for stream in streams:
            group.create_task(stream.write(bytes(5_000_000)))
    assert most_in(1.0, *sinks) <= (1.0 + SLICE) * 3e6 + 6 * fleet.portion
    ends = [sink.came[-1][0] for sink in sinks]
    assert max(ends) - min(ends) < 2.0
    assert max(ends) - 1000 == pytest.approx(10, abs=1)


@in_no_time
async def test_link_keeps_to_its_own_cap_where_the_fleet_has_room() -> None:
    slow, fast, fleet = Sink(), Sink(), Pace(10e6)
    async with asyncio.TaskGroup() as group:
        group.create_task(PacedStream(slow, Pace(1e6, within=fleet)).write(bytes(4_000_000)))
        group.create_task(PacedStream(fast, fleet).write(bytes(4_000_000)))
    assert most_in(1.0, slow) <= (1.0 + SLICE) * 1e6 + LARGEST
    assert fast.came[-1][0] < 1001


@in_no_time
async def test_reading_is_not_paced() -> None:
    stream = PacedStream(Sink(), Pace(1e3))
    assert await stream.read(7) == b"x" * 7
    assert await stream.ended() == Output(status=0)
    assert asyncio.get_running_loop().time() == 1000
