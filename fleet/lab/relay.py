"""Relay TCP connections over a slow link: at a rate and with a delay, in user space and in a process of its own.

    python -m fleet.lab.relay LISTEN_PORT TARGET_PORT --rate 10mbit --delay 25ms

All connections share the rate, each way. Connecting itself takes no delay: only bytes are held back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import socket
import sys
from collections import deque
from dataclasses import dataclass, field

BLOCK = 1 << 14
"""The most bytes that are read at once. At 10 Mbit/s they take 13 ms."""
QUEUE = 1 << 17
"""Bytes that wait for the link besides those that are on their way, as in a router's buffer."""
SOCKET_BUFFER = 1 << 17
READ_AHEAD = 1 << 16
"""Bytes that asyncio reads before anybody asks; it stops at twice as many."""
SLOWEST_BUFFER = 1 << 12
BUFFERED = 0.1
"""Seconds of a slow link that may wait for it, in our queue and in the kernel's: what waits there has not crossed,
though the sender is told that it has arrived."""
UNITS = {"": 1, "bit": 1 / 8, "kbit": 1e3 / 8, "mbit": 1e6 / 8, "gbit": 1e9 / 8}
SECONDS = {"": 1.0, "s": 1.0, "ms": 1e-3}


def rate(text: str) -> float:
    """Parse bytes per second: `10mbit`, or a number of bytes."""
    return _number(text, UNITS)


def delay(text: str) -> float:
    """Parse seconds: `25ms`."""
    return _number(text, SECONDS)


def _number(text: str, units: dict[str, float]) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in units:
        known = ", ".join(unit for unit in units if unit)
        raise argparse.ArgumentTypeError(f"{text!r} is not a number with one of these units: {known}")
    return float(match[1]) * units[match[2]]


@dataclass
class Direction:
    """One direction of the link."""

    rate: float
    """Bytes per second. 0 is no limit."""
    delay: float
    """Seconds."""
    passed: int = 0
    """Bytes so far."""
    _free_at: float = 0.0

    def due(self, count: int) -> float:
        """Return when this many bytes, sent now, come out at the other end, by the loop's clock."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + (count / self.rate if self.rate else 0.0)
        self.passed += count
        return self._free_at + self.delay

    def buffer(self, most: int) -> int:
        """Return how many bytes may wait for the link in one place: `most`, or fewer if it is slow."""
        return min(most, max(SLOWEST_BUFFER, int(BUFFERED * self.rate))) if self.rate else most

    @property
    def room(self) -> int:
        """Bytes that are held before the sender must wait."""
        return self.buffer(QUEUE) + int(2 * self.delay * self.rate) if self.rate else 1 << 26


@dataclass
class Relay:
    """Passes connections on to a port of this machine.

    `cuts` has the number of bytes after which each next one is cut.
    """

    target: int
    up: Direction
    down: Direction
    cuts: deque[int] = field(default_factory=deque)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, port: int) -> asyncio.Server:
        """Listen on the port of 127.0.0.1. 0 is any port."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it. It is small because bytes that wait in the kernel are neither slow nor late.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.up.buffer(SOCKET_BUFFER))
        listener.bind(("127.0.0.1", port))
        return await asyncio.start_server(self._accept, sock=listener, limit=self.up.buffer(READ_AHEAD))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._join(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self.cuts.popleft() if self.cuts else None
        try:
            far_reader, far_writer = await asyncio.open_connection(
                "127.0.0.1", self.target, limit=self.down.buffer(READ_AHEAD)
            )
        except OSError:
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_carry(self.up, reader, far_writer, left))
                group.create_task(_carry(self.down, far_reader, writer, None))
        except* OSError:
            pass
        finally:
            for each in (writer, far_writer):
                each.transport.abort()


async def _carry(way: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None) -> None:
    """Carry everything in this direction, on time. Raise `ConnectionResetError` after `left` bytes."""
    held: deque[tuple[float, bytes]] = deque()
    changed = asyncio.Condition()
    size = 0

    async def let_go() -> None:
        nonlocal size
        while True:
            async with changed:
                await changed.wait_for(lambda: held)
                due, block = held.popleft()
            loop = asyncio.get_running_loop()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not block:
                break
            writer.write(block)
            await writer.drain()
            async with changed:
                size -= len(block)
                changed.notify_all()
        with contextlib.suppress(OSError):
            writer.write_eof()

    async with asyncio.TaskGroup() as group:
        group.create_task(let_go())
        while True:
            most = way.buffer(BLOCK)
            block = await reader.read(most if left is None else min(most, left))
            async with changed:
                while size >= way.room:
                    await changed.wait()
                held.append((way.due(len(block)), block))
                size += len(block)
                changed.notify_all()
            if not block:
                break
            if left is not None:
                left -= len(block)
                if left <= 0:
                    raise ConnectionResetError("cut")


async def _main(options: argparse.Namespace) -> None:
    relay = Relay(options.target, Direction(options.rate, options.delay), Direction(options.rate, options.delay))
    if options.cut_after:
        low, high = options.cut_after
        chance = random.Random(options.seed)
        relay.cuts.extend(chance.randint(low, high) for _ in range(options.cuts))
    server = await relay.serve(options.port)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    """Run until the process is ended. The first line of stdout is the port, once it listens."""
    parser = argparse.ArgumentParser(prog="python -m fleet.lab.relay", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("port", type=int, help="where to listen on 127.0.0.1; 0 is any free port")
    parser.add_argument("target", type=int, help="the port of 127.0.0.1 to pass connections on to")
    parser.add_argument("--rate", type=rate, default=0.0, help="each way, 10mbit say; default: no limit")
    parser.add_argument("--delay", type=delay, default=0.0, help="each way, 25ms say")
    parser.add_argument(
        "--cut-after", type=int, nargs=2, metavar=("LOW", "HIGH"), help="cut connections after this many bytes"
    )
    parser.add_argument("--cuts", type=int, default=1, help="so many connections, with --cut-after")
    parser.add_argument("--seed", type=int, default=0)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
