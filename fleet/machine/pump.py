"""Pump bytes from one connection to another, in tasks that can be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import asyncssh

from fleet.machine import Bridge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from fleet.machine.bounds import Outputs

    Serve = Callable[[Bridge, asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]

BLOCK = 1 << 18
NOTED = 64 << 10
"""Bytes that are kept of the stderr of each command behind a bridge."""


class Sink(Protocol):
    """The stdin of a command: that of asyncio, or that of asyncssh."""

    def write(self, data: bytes, /) -> None:
        """Send the bytes."""
        ...

    async def drain(self) -> None:
        """Wait while many are unsent."""
        ...

    def write_eof(self) -> None:
        """Send the end of the file."""
        ...


@contextlib.asynccontextmanager
async def bridged(serve: Serve) -> AsyncIterator[Bridge]:
    """Open a socket, while inside. `serve` has each connection to it."""
    # The path of a UNIX socket has at most 107 bytes, so the folder's must be short. Nobody else may look into it.
    with tempfile.TemporaryDirectory(prefix="fleet-", ignore_cleanup_errors=True) as folder:
        bridge = Bridge(Path(folder) / "s", last_moved=asyncio.get_running_loop().time())
        tasks: set[asyncio.Task[None]] = set()

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            start_task(tasks, serve(bridge, reader, writer), writer)

        server = await asyncio.start_unix_server(begin, bridge.socket)
        try:
            yield bridge
        finally:
            server.close()
            await cancel_all(tasks)


def start_task(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None], *writers: Any) -> None:
    """Start the work as one of the tasks. The writers are closed when it ends, even if it never began."""

    def end(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        for writer in writers:
            writer.close()

    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(end)


async def cancel_all(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel and await all tasks."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


async def pump_up(bridge: Bridge, reader: asyncio.StreamReader, stdin: Sink) -> None:
    """Send everything from the near end, and then its end of file. Stop early if the far end reads no more."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, asyncssh.ConnectionLost):
        while block := await reader.read(BLOCK):
            async for piece in bridge.pace.portions(block) if bridge.pace else _whole(block):
                stdin.write(bytes(piece))
                await stdin.drain()
                bridge.sent += len(piece)
                bridge.last_moved = asyncio.get_running_loop().time()
        stdin.write_eof()


async def _whole(block: bytes) -> AsyncIterator[bytes]:
    yield block


async def pump_down(bridge: Bridge, outputs: Outputs, writer: asyncio.StreamWriter) -> None:
    """Pass on everything from the far end, and then close the near end. Stop early if the near end reads no more."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while block := await outputs.block(BLOCK):
            writer.write(block)
            await writer.drain()
            bridge.received += len(block)
            bridge.last_moved = asyncio.get_running_loop().time()
        writer.close()
