"""This machine: the one `fleet` runs on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

from fleet.errors import CommandFailedError
from fleet.machine import Output
from fleet.machine.lines import read_text
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
        """See `Machine.run`. Of a command that is given up, nothing of its process group is left."""
        process = await started(command, self._environment)
        try:
            async with asyncio.timeout(command.timeout):
                stdout, stderr = await _talk(process, command, on_line)
                status = await process.wait()
        except BaseException as error:
            await _end(process)
            if not isinstance(error, TimeoutError):
                raise
            message = f"{command.argv[0]} did not end within {command.timeout:g} s"
            raise CommandFailedError(HERE, message, ran=str(command)) from error
        if status < 0:
            died = f"{command.argv[0]} died of {signal.Signals(-status).name}"
            raise CommandFailedError(HERE, died, ran=str(command), said=stderr.splitlines()[-5:])
        return Output(status=status, stdout=stdout, stderr=stderr)

    async def dial(self, host: str, port: int, *, timeout: float) -> socket.socket:
        """See `Machine.dial`."""
        loop = asyncio.get_running_loop()
        refusal = OSError(f"{host} has no address")
        async with asyncio.timeout(timeout):
            for family, kind, number, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                connection = socket.socket(family, kind, number)
                try:
                    connection.settimeout(0)
                    await loop.sock_connect(connection, address)
                except BaseException as error:
                    connection.close()
                    if not isinstance(error, OSError):
                        raise
                    refusal = error
                else:
                    connection.settimeout(None)
                    return connection
        raise refusal


async def started(command: Command, environment: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    """The command runs, in a process group of its own; None stands for the environment of this process.

    Raises `CommandFailedError` where it is not there. Of a command that is given up while it starts, nothing is left.
    """
    # asyncio kills a command that is given up while it starts, but not what that has started by then.
    starting = asyncio.ensure_future(_start(command, environment))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(CommandFailedError):
            await _end(await starting)
        raise


async def _start(command: Command, environment: Mapping[str, str] | None) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    try:
        return await asyncio.create_subprocess_exec(
            *command.argv, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
        )
    except OSError as error:
        message = f"cannot run {command.argv[0]}: {error.strerror}"
        raise CommandFailedError(HERE, message, ran=str(command)) from error


async def _talk(process: asyncio.subprocess.Process, command: Command, on_line: OnLine | None) -> tuple[str, str]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.TaskGroup() as group:
        stdout = group.create_task(read_text(process.stdout.read, None, command.keep))
        stderr = group.create_task(read_text(process.stderr.read, on_line, command.keep))
        group.create_task(_feed(process.stdin, command.stdin))
    return stdout.result(), stderr.result()


async def _feed(stdin: asyncio.StreamWriter, data: bytes) -> None:
    # A command that does not read its input to the end is not an error.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(data)
        await stdin.drain()
    stdin.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Nothing of the process group is left, even where its leader had ended before. Whoever cancels this too, with a
    second Ctrl-C say, shortens the wait between TERM and KILL."""
    ending = asyncio.ensure_future(process.wait())
    try:
        await _struck(process, signal.SIGTERM, ending)
    finally:
        await _struck(process, signal.SIGKILL, ending)
        ending.cancel()


async def _struck(process: asyncio.subprocess.Process, number: signal.Signals, ending: asyncio.Future[int]) -> None:
    """The process group has the signal, and its leader had time to end by it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
        # Not asyncio.timeout: in a task that was cancelled, that of Python 3.11.2 ends as one more cancellation.
        await asyncio.wait({ending}, timeout=STOP_PATIENCE)
