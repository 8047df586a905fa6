"""Run a command on this machine as a stream of bytes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

from fleet.machine import Output
from fleet.machine.local import STOP_PATIENCE, Children, end, let_go

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleet.machine import Command
    from fleet.machine.bounds import Outputs

LAST_LINES, LAST_BYTES = 20, 1 << 16
"""How much of its stderr is kept."""


class LocalStreams:
    """Runs commands here, by default as the user that fleet runs as. `Command.root` does not count then."""

    def __init__(self, children: Children | None = None) -> None:
        """`children` says how commands are started."""
        self._children = children or Children()

    @contextlib.asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[LocalStream]:
        """See `RemoteMachine.stream`. Nothing of the command's process group is left, unless sudo has made it root."""
        process = await self._children.start(command)
        try:
            await self._children.prepare(process, command)
        except BaseException:
            await end(process)
            raise
        stream = LocalStream(process, self._children.outputs(process))
        try:
            yield stream
        finally:
            await stream.aclose()


class LocalStream:
    """See `Stream`."""

    def __init__(self, process: asyncio.subprocess.Process, outputs: Outputs) -> None:
        self._process = process
        self._outputs = outputs
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

    async def aclose(self) -> None:
        """End the command, and drop the rest of what it says. One that sudo has made root loses its pipes only.

        It ends by itself then, if it reads to the end: so it must not wait for us to close them.
        """
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.transport.abort()
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        except PermissionError:
            let_go(self._process)
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            return
        await self._outputs.emptied(STOP_PATIENCE, stderr=False)
        await self.ended()

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
