"""This machine: the one `fleet` runs on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

from fleet.errors import CommandFailedError
from fleet.events import plain_text
from fleet.machine import Output
from fleet.model import HostName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.machine import Command, OnLine

HERE = HostName("controller")
STOP_PATIENCE = 5.0
"""Seconds between TERM and KILL for a command that is given up."""


class LocalMachine:
    """Runs commands as children of this process, each in a process group of its own."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = None if environment is None else {**os.environ, **environment}

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        """The command has ended; nothing of its process group is left, also when this is cancelled."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
                limit=1 << 20,
            )
        except OSError as error:
            raise CommandFailedError(
                HERE, f"cannot run {command.argv[0]}: {error.strerror}", ran=str(command)
            ) from error
        try:
            async with asyncio.timeout(command.timeout):
                stdout, stderr = await _talk(process, command.stdin, on_line)
                status = await process.wait()
        except TimeoutError as error:
            message = f"{command.argv[0]} did not end within {command.timeout:g} s"
            raise CommandFailedError(HERE, message, ran=str(command)) from error
        finally:
            await _end(process)
        if status < 0:
            name = signal.Signals(-status).name
            raise CommandFailedError(HERE, f"{command.argv[0]} died of {name}", ran=str(command), said=_tail(stderr))
        return Output(status=status, stdout=stdout, stderr=stderr)

    async def dial(self, host: str, port: int, *, timeout: float) -> socket.socket:
        """A connected socket to `host:port`."""
        connection = await asyncio.to_thread(socket.create_connection, (host, port), timeout)
        connection.settimeout(None)
        return connection


def _tail(stderr: str) -> tuple[str, ...]:
    return tuple(stderr.splitlines()[-5:])


async def _talk(process: asyncio.subprocess.Process, data: bytes, on_line: OnLine | None) -> tuple[str, str]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.TaskGroup() as group:
        stdout = group.create_task(process.stdout.read())
        stderr = group.create_task(_lines(process.stderr, on_line))
        # A command that does not read its input to the end is not an error.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(data)
            await process.stdin.drain()
        process.stdin.close()
    return stdout.result().decode(errors="replace"), stderr.result()


async def _lines(stream: asyncio.StreamReader, on_line: OnLine | None) -> str:
    seen: list[str] = []
    async for raw in stream:
        line = raw.decode(errors="replace").rstrip("\r\n")
        seen.append(line)
        if on_line:
            on_line(plain_text(line))
    return "\n".join(seen)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.shield(asyncio.wait_for(process.wait(), STOP_PATIENCE))
            return
