"""Run a command on a host as a stream of bytes, for protocols that fleet itself speaks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncssh

from fleet.errors import UnreachableError
from fleet.machine import Output, patched
from fleet.machine.bounds import Outputs
from fleet.machine.crossing import bytes_waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.machine import Command
    from fleet.model import HostName

LAST_LINES, LAST_BYTES = 20, 1 << 16
"""How much of stderr is kept: a server that fails writes the reason last."""


class SshStream:
    """See `Stream`."""

    def __init__(self, name: HostName, command: Command, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._name = name
        self._command = command
        self._process = process
        self._outputs = Outputs(process)
        self._listening = asyncio.create_task(self._outputs.errors(LAST_BYTES))
        self._write: Callable[[bytes | memoryview], None] = (
            patched.fast_write(process.channel) or process.stdin.write  # type: ignore[assignment]  # it copies any buffer
        )

    async def read(self, count: int) -> bytes:
        """See `Stream.read`. A lost connection ends the stream too."""
        try:
            return await self._outputs.block(count)
        except (OSError, asyncssh.Error):
            return b""

    async def write(self, data: bytes | memoryview) -> None:
        """See `Stream.write`."""
        try:
            self._write(data)
            await self._process.stdin.drain()
        except (OSError, asyncssh.Error) as error:
            raise BrokenPipeError("the command reads no more") from error

    @property
    def waiting(self) -> int:
        """See `Stream.waiting`."""
        return bytes_waiting(self._process.channel)

    async def ended(self) -> Output:
        """See `Stream.ended`."""
        await self._process.wait_closed()
        await asyncio.wait({self._listening})
        # asyncssh raises no error when the connection drops: the command ends without a status, its output cut short.
        if self._process.returncode is None:
            ran = str(self._command)
            raise UnreachableError(self._name, "connection lost while talking to a command", ran=ran)
        return Output(status=self._process.returncode, stderr=self._last_lines())

    async def aclose(self) -> None:
        """Stop reading its stderr."""
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)

    def _last_lines(self) -> str:
        """Return the last lines of stderr; nothing if it could not be read to its end."""
        if self._listening.cancelled() or self._listening.exception() is not None:
            return ""
        return "\n".join(self._listening.result().splitlines()[-LAST_LINES:])
