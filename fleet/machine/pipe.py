"""Run a command on this machine as a stream of bytes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

from fleet.machine import Output
from fleet.machine.bounds import MOST_HERE, Outputs
from fleet.machine.local import STOP_PATIENCE, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleet.machine import Command

LAST_LINES, LAST_BYTES = 20, 1 << 16
"""How much of its stderr is kept."""


class LocalStreams:
    """Runs commands here, as the user that fleet runs as. `Command.root` does not count."""

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[LocalStream]:
        """See `RemoteMachine.stream`. Nothing of the command's process group is left."""
        process = await started(command)
        stream = LocalStream(process)
        try:
            yield stream
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await stream.emptied()
            await stream.ended()


class LocalStream:
    """See `Stream`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._outputs = Outputs(process, most=MOST_HERE)
        self._listening = asyncio.create_task(self._outputs.errors(LAST_BYTES))

    async def read(self, count: int) -> bytes:
        """See `Stream.read`."""
        return await self._outputs.block(count)

    async def write(self, data: bytes | memoryview) -> None:
        """See `Stream.write`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except OSError as error:
            raise BrokenPipeError("the command reads no more") from error

    async def emptied(self) -> None:
        """Read the rest of its stdout, and drop it."""
        await self._outputs.emptied(STOP_PATIENCE, stderr=False)

    waiting = 0
    """See `Stream.waiting`. There is no way to go."""

    async def ended(self) -> Output:
        """See `Stream.ended`. The status of a command that a signal ended is the negative number of the signal."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(OSError):
            await self._process.stdin.wait_closed()
        lines = (await asyncio.shield(self._listening)).splitlines()
        return Output(status=await self._process.wait(), stderr="\n".join(lines[-LAST_LINES:]))
