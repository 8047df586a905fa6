"""Bytes that go from one connection to another, and when."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import asyncssh

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from fleet.machine import Bridge

BLOCK = 1 << 18


def keep(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None], *writers: Any) -> None:
    """The work is under way, as one of the tasks; the writers are closed when it ends, even if it never began."""

    def end(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        for writer in writers:
            writer.close()

    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(end)


async def cancelled(tasks: set[asyncio.Task[None]]) -> None:
    """None of the tasks is at work any more."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


async def pump_up(bridge: Bridge, reader: asyncio.StreamReader, stdin: asyncssh.SSHWriter[bytes]) -> None:
    """Everything from the near end has been sent, and its end too; or the far end reads no more."""
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


async def pump_down(bridge: Bridge, stdout: asyncssh.SSHReader[bytes], writer: asyncio.StreamWriter) -> None:
    """Everything from the far end has arrived, and the near end is closed; or it reads no more."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while block := await stdout.read(BLOCK):
            writer.write(block)
            await writer.drain()
            bridge.received += len(block)
            bridge.last_moved = asyncio.get_running_loop().time()
        writer.close()


async def join(
    near_reader: asyncio.StreamReader, near_writer: asyncio.StreamWriter, far_reader: Any, far_writer: Any
) -> None:
    """Both ends have said all they had to say."""

    async def copy(reader: Any, writer: Any) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            while block := await reader.read(BLOCK):
                writer.write(block)
                await writer.drain()
            writer.write_eof()

    async with asyncio.TaskGroup() as group:
        group.create_task(copy(near_reader, far_writer))
        group.create_task(copy(far_reader, near_writer))
    near_writer.close()
    with contextlib.suppress(OSError):  # asyncio complains on stderr about an error that nobody has asked for
        await near_writer.wait_closed()
