"""Pump bytes from one connection to another, in tasks that can be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import asyncssh

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from fleet.machine import Bridge
    from fleet.machine.bounds import Outputs

BLOCK = 1 << 18


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


async def pump_up(bridge: Bridge, reader: asyncio.StreamReader, stdin: asyncssh.SSHWriter[bytes]) -> None:
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
