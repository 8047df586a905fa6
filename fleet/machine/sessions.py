"""Start commands on a connection in one round trip; the usual way of SSH takes three.

The usual way opens a session (one), asks for the command (two) and sends its input (three): sshd takes no input before
the command runs. So sessions are opened in advance, each with a shell that waits for one line, becomes the command on
that line, and leaves the rest of its stdin to it. At 50 ms of latency a push consists of little but round trips.

If asyncssh is not patched (`patched/session.py`), or if ~/.ssh/config asks for more than a plain session (an
environment, the agent), asyncssh starts the command in its own way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncssh

from fleet.machine import CHANNELS, words
from fleet.machine.bounds import Outputs
from fleet.machine.patched import session
from fleet.machine.patched.session import Process, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SPARE = 2
"""Sessions that are open before they are needed, from the second command on: a single command needs none."""
_MARK = b"fleet: ready\n"
LONGEST = 4096
"""Bytes of a line for a shell that waits. It reads byte by byte, so that it takes nothing of what follows."""
GREETING = 64 << 10
"""Bytes that whatever the login shell prints may have, before ours says that it waits."""
SOON = 1.0
"""Seconds to wait for a shell that is just being started."""


class Sessions:
    """Starts the commands of one connection."""

    def __init__(
        self, connection: asyncssh.SSHClientConnection, used: Callable[[], int], *, has_shell: bool = True
    ) -> None:
        self._connection = connection
        self._used = used
        """Returns how many sessions of the connection are in use or asked for now."""
        self._spare: list[asyncio.Task[Process]] = []
        self._started = 0
        """How many commands were started so far."""
        self._takes_lines = has_shell
        """Whether the host had room and a shell for every session that was asked for in advance."""

    async def start(self, argv: Sequence[str]) -> Process:
        """Ask the host to run the command. Whatever is written from now on is its input.

        Raise `asyncssh.ChannelOpenError` if the host has no place for another session.
        """
        if session.can_open(self._connection):
            return await self._quickly(argv)
        asked, first = words.asked(argv)
        return await self._usually(asked, first)

    async def start_line(self, line: str) -> Process:
        """Ask sshd to run this line, which no shell is to read in another way. Raises what `start` raises."""
        if not session.can_open(self._connection):
            return await self._usually(line, b"")
        process = await self._open_and_start(line)
        self._started += 1
        return process

    async def _usually(self, asked: str, first: bytes) -> Process:
        # Ask for no terminal, though ~/.ssh/config may: it would mix stderr into stdout.
        plain = {"encoding": None, "request_pty": False, "x11_forwarding": False}
        process: Process = await self._connection.create_process(asked, **plain)
        self._started += 1
        if first:
            process.stdin.write(first)
        return process

    async def _quickly(self, argv: Sequence[str]) -> Process:
        line = words.line(argv)
        waiting = await self._take_shell() if len(line) < LONGEST else None
        asked, first = ("", line) if waiting else words.asked(argv)
        process = waiting or await self._open_and_start(asked)
        self._started += 1
        self._keep_spare()
        if first:
            process.stdin.write(first)
        return process

    @property
    def has_started(self) -> bool:
        """Whether a command was started on the connection."""
        return self._started > 0

    async def give_way(self) -> None:
        """End the shells that wait, so that the host has room for something else."""
        self._takes_lines = False
        spare, self._spare = self._spare, []
        for found in await asyncio.gather(*spare, return_exceptions=True):
            if not isinstance(found, BaseException):
                found.stdin.write_eof()
                await found.wait_closed()

    async def close(self) -> None:
        """Stop opening sessions."""
        for task in self._spare:
            task.cancel()
        await asyncio.gather(*self._spare, return_exceptions=True)

    async def _take_shell(self) -> Process | None:
        """Return a shell that waits for its line, if there is one soon and it can still be used."""
        while self._spare:
            task = self._spare[0]
            if not task.done():
                await asyncio.wait({task}, timeout=SOON)
            if not task.done() or task not in self._spare:
                return None
            self._spare.remove(task)
            if task.cancelled() or task.exception() is not None:
                continue
            process = task.result()
            if session.of(process).is_fresh:
                return process
            process.channel.abort()
        return None

    async def _open_and_start(self, line: str) -> Process:
        """Open a session and start the line in it."""
        opened = Session(self._connection)
        await opened.open()
        return await opened.start(line)

    async def _start_shell(self) -> Process:
        """Start a shell and wait until it waits for its line. Raise `_NoShellError` if something else was started."""
        process = await self._open_and_start(words.reader("wait-for-command"))
        said = b""
        try:
            said = await Outputs(process).until(_MARK, most=GREETING)
        finally:
            if not said.endswith(_MARK):
                process.channel.abort()
        if not said.endswith(_MARK):
            raise _NoShellError
        return process

    def _keep_spare(self) -> None:
        """Open sessions in advance until there are `SPARE` of them, as far as the connection has room."""
        if self._started > 1 and self._takes_lines:
            for _ in range(min(SPARE, CHANNELS - self._used()) - len(self._spare)):
                task = asyncio.create_task(self._start_shell())
                task.add_done_callback(self._note)
                self._spare.append(task)

    def _note(self, task: asyncio.Task[Process]) -> None:
        if not task.cancelled() and isinstance(task.exception(), _NoShellError | asyncssh.ChannelOpenError):
            self._takes_lines = False
            if task in self._spare:
                self._spare.remove(task)


class _NoShellError(Exception):
    """The host runs something other than what it is asked to run."""
