"""Run commands on this machine, the one that fleet runs on."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shlex
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
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from fleet.machine import Command, OnLine, TcpStream

HERE = HostName("controller")
STOP_PATIENCE = 5.0
"""Seconds between TERM and KILL for a command that is given up."""


class Children:
    """How commands are started here: as children of this process, as its user, each in a process group of its own."""

    name = HERE
    """The host that errors are about."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = None if environment is None else {**os.environ, **environment}

    async def start(self, command: Command) -> asyncio.subprocess.Process:
        """Start the command. Raise `CommandFailedError` if it does not exist.

        If this is cancelled, nothing of the command is left.
        """
        return await started(command.argv, self._environment)

    async def prepare(self, process: asyncio.subprocess.Process, command: Command) -> None:
        """Wait until what was started is the command itself, and nothing that leads to it."""

    def watches_stdin(self, _: Command) -> bool:
        """Whether the command, as it was started, ends when its input does, and gets none before."""
        return False

    def outputs(self, process: asyncio.subprocess.Process) -> Outputs:
        """Return what the command says, within the limits of this machine."""
        return Outputs(process, most=MOST_HERE, clean=False)


class LocalMachine:
    """Runs commands as children of this process, each in a process group of its own."""

    def __init__(self, environment: Mapping[str, str] | None = None, *, children: Children | None = None) -> None:
        """`children` says how commands are started; by default as they are, with `environment` in addition."""
        self._children = children or Children(environment)

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        """See `Machine.run`. A command that is given up leaves nothing of its process group behind."""
        name = self._children.name
        process = await self._children.start(command)
        try:
            async with asyncio.timeout(command.timeout):
                await self._children.prepare(process, command)
                output = await _talk(process, self._children, command, on_line)
                status = await process.wait()
        except BaseException as error:
            await end(process)
            if isinstance(cause := first(error), TooMuchError):
                raise AnswerError(name, f"{command.program} {cause}", ran=str(command)) from error
            if not isinstance(error, TimeoutError):
                raise
            message = f"{command.program} did not end within {command.timeout:g} s"
            raise CommandFailedError(name, message, ran=str(command)) from error
        if status < 0:
            died = f"{command.program} {how_it_ended(status)}"
            raise CommandFailedError(name, died, ran=str(command), said=output.stderr.splitlines()[-5:])
        return dataclasses.replace(output, status=status)

    def dial(self, host: str, port: int, *, timeout: float) -> AbstractAsyncContextManager[TcpStream]:
        """See `Machine.dial`."""
        return dial_here(host, port, timeout=timeout)


async def started(
    argv: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    name: HostName = HERE,
    folder: str | None = None,
) -> asyncio.subprocess.Process:
    """Start the command in a process group of its own, in `folder` or else where this process is.

    `environment` None stands for the environment of this process. Raise `CommandFailedError`, about the host `name`, if
    it does not exist. If this is cancelled, nothing of the command is left.
    """
    # If cancelled meanwhile, asyncio kills the command itself but not the processes that it has started by then.
    starting = asyncio.ensure_future(_start(argv, environment, name, folder))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(CommandFailedError):
            await end(await starting)
        raise


async def _start(
    argv: Sequence[str], environment: Mapping[str, str] | None, name: HostName, folder: str | None
) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    try:
        return await asyncio.create_subprocess_exec(
            *argv, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=folder, start_new_session=True
        )
    except (OSError, ValueError) as error:  # a NUL in an argument is a ValueError
        message = f"cannot run {argv[0]}: {getattr(error, 'strerror', error)}"
        raise CommandFailedError(name, message, ran=shlex.join(argv)) from error


async def _talk(
    process: asyncio.subprocess.Process, children: Children, command: Command, on_line: OnLine | None
) -> Output:
    """Return what the process has written until its outputs ended, with status 0: it may not have ended yet."""
    outputs = children.outputs(process)
    assert process.stdin is not None
    async with asyncio.TaskGroup() as group:
        stdout = group.create_task(outputs.answer(command))
        stderr = group.create_task(outputs.errors(command.keep, on_line))
        if not children.watches_stdin(command):
            group.create_task(_feed(process.stdin, command.stdin))
    return Output(status=0, stdout=stdout.result(), stderr=stderr.result(), left_out=outputs.left_out)


async def _feed(stdin: asyncio.StreamWriter, data: bytes) -> None:
    # A command that does not read its input to the end is not an error.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(data)
        await stdin.drain()
    stdin.close()


async def end(process: asyncio.subprocess.Process) -> None:
    """End the whole process group, even if its leader has ended before: TERM first, KILL after `STOP_PATIENCE` seconds.

    A further cancellation, as of a second Ctrl-C, shortens the wait in between. A command that sudo has made root is
    not ours to end: it loses its pipes and may live on, as one at the other end of a connection that was closed.
    """
    ending = asyncio.ensure_future(process.wait())
    try:
        await _kill_group(process, signal.SIGTERM, ending)
    except PermissionError:
        let_go(process)
    finally:
        with contextlib.suppress(PermissionError):
            await _kill_group(process, signal.SIGKILL, ending)
        ending.cancel()
        await Outputs(process).emptied(STOP_PATIENCE)


def let_go(process: asyncio.subprocess.Process) -> None:
    """Close the pipes of a process that cannot be ended."""
    transport = getattr(process, "_transport", None)  # asyncio closes the pipes one by one, or like this
    if transport is not None:
        with contextlib.suppress(
            PermissionError, ProcessLookupError
        ):  # it tries to kill, and knows no process of root's
            transport.close()


async def _kill_group(process: asyncio.subprocess.Process, number: signal.Signals, ending: asyncio.Future[int]) -> None:
    """Send the signal to the process group, and give its leader time to end.

    Raise `PermissionError` if it is root's.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
        # Not asyncio.timeout: the one of Python 3.11.2 raises CancelledError in a task that was cancelled before.
        await asyncio.wait({ending}, timeout=STOP_PATIENCE)
