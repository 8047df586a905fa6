"""Run commands on this machine, the one that fleet runs on."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
from typing import TYPE_CHECKING

from fleet.errors import AnswerError, CommandFailedError
from fleet.machine import Output
from fleet.machine.bounds import MOST_HERE, Outputs, TooMuchError
from fleet.machine.tcp import dial_here
from fleet.model import HostName
from fleet.tasks import first
from fleet.text import how_it_ended

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from fleet.machine import Command, OnLine, TcpStream

HERE = HostName("controller")
STOP_PATIENCE = 5.0
"""Seconds between TERM and KILL for a command that is given up."""


class LocalMachine:
    """Runs commands as children of this process, each in a process group of its own."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = None if environment is None else {**os.environ, **environment}

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        """See `Machine.run`. A command that is given up leaves nothing of its process group behind."""
        process = await started(command, self._environment)
        try:
            async with asyncio.timeout(command.timeout):
                output = await _talk(process, command, on_line)
                status = await process.wait()
        except BaseException as error:
            await _end(process)
            if isinstance(cause := first(error), TooMuchError):
                raise AnswerError(HERE, f"{command.argv[0]} {cause}", ran=str(command)) from error
            if not isinstance(error, TimeoutError):
                raise
            message = f"{command.argv[0]} did not end within {command.timeout:g} s"
            raise CommandFailedError(HERE, message, ran=str(command)) from error
        if status < 0:
            died = f"{command.argv[0]} {how_it_ended(status)}"
            raise CommandFailedError(HERE, died, ran=str(command), said=output.stderr.splitlines()[-5:])
        return dataclasses.replace(output, status=status)

    def dial(self, host: str, port: int, *, timeout: float) -> AbstractAsyncContextManager[TcpStream]:
        """See `Machine.dial`."""
        return dial_here(host, port, timeout=timeout)


async def started(command: Command, environment: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    """Start the command in a process group of its own. `environment` None stands for the environment of this process.

    Raise `CommandFailedError` if it does not exist. If this is cancelled, nothing of the command is left.
    """
    # If cancelled meanwhile, asyncio kills the command itself but not the processes that it has started by then.
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
    except (OSError, ValueError) as error:  # a NUL in an argument is a ValueError
        message = f"cannot run {command.argv[0]}: {getattr(error, 'strerror', error)}"
        raise CommandFailedError(HERE, message, ran=str(command)) from error


async def _talk(process: asyncio.subprocess.Process, command: Command, on_line: OnLine | None) -> Output:
    """Return what the process has written until its outputs ended, with status 0: it may not have ended yet."""
    assert process.stdin is not None
    outputs = Outputs(process, most=MOST_HERE, clean=False)
    async with asyncio.TaskGroup() as group:
        stdout = group.create_task(outputs.answer(command))
        stderr = group.create_task(outputs.errors(command.keep, on_line))
        group.create_task(_feed(process.stdin, command.stdin))
    return Output(status=0, stdout=stdout.result(), stderr=stderr.result(), left_out=outputs.left_out)


async def _feed(stdin: asyncio.StreamWriter, data: bytes) -> None:
    # A command that does not read its input to the end is not an error.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(data)
        await stdin.drain()
    stdin.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the whole process group, even if its leader has ended before: TERM first, KILL after `STOP_PATIENCE` seconds.

    A further cancellation, as of a second Ctrl-C, shortens the wait in between.
    """
    ending = asyncio.ensure_future(process.wait())
    try:
        await _kill_group(process, signal.SIGTERM, ending)
    finally:
        await _kill_group(process, signal.SIGKILL, ending)
        ending.cancel()
        await Outputs(process).emptied(STOP_PATIENCE)


async def _kill_group(process: asyncio.subprocess.Process, number: signal.Signals, ending: asyncio.Future[int]) -> None:
    """Send the signal to the process group, and give its leader time to end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
        # Not asyncio.timeout: the one of Python 3.11.2 raises CancelledError in a task that was cancelled before.
        await asyncio.wait({ending}, timeout=STOP_PATIENCE)
