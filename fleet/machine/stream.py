"""Run a command on a host as a stream of bytes, for protocols that fleet itself speaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

import asyncssh

from fleet.errors import UnreachableError
from fleet.events import plain_text
from fleet.machine import Output, patched

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.machine import Command
    from fleet.model import HostName

LAST_LINES = 20
"""Lines of stderr that are kept: a server that fails writes the reason last."""


class SshStream:
    """See `Stream`."""

    def __init__(self, name: HostName, command: Command, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._name = name
        self._command = command
        self._process = process
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._listening = asyncio.create_task(self._listen())
        self._write: Callable[[bytes | memoryview], None] = (
            patched.fast_write(process.channel) or process.stdin.write  # type: ignore[assignment]  # it copies any buffer
        )

    async def read(self, count: int) -> bytes:
        """See `Stream.read`. A lost connection ends the stream too."""
        try:
            return await self._process.stdout.read(count)
        except (OSError, asyncssh.Error):
            return b""

    async def write(self, data: bytes | memoryview) -> None:
        """See `Stream.write`."""
        try:
            self._write(data)
            await self._process.stdin.drain()
        except (OSError, asyncssh.Error) as error:
            raise BrokenPipeError("the command reads no more") from error

    async def ended(self) -> Output:
        """See `Stream.ended`."""
        await self._process.wait_closed()
        await asyncio.shield(self._listening)
        # asyncssh raises no error when the connection drops: the command ends without a status, its output cut short.
        if self._process.returncode is None:
            ran = str(self._command)
            raise UnreachableError(self._name, "connection lost while talking to a command", ran=ran)
        return Output(status=self._process.returncode, stderr="\n".join(self._lines))

    async def aclose(self) -> None:
        """Stop reading its stderr."""
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            while raw := await self._process.stderr.readline():
                self._lines.append(plain_text(raw.decode(errors="replace").rstrip("\r\n")))
