"""Runs `fleet` as a child of a process that has imported it already: a test that starts it ten times imports it once.

What starting takes is the subject of other tests: those of a terminal, of `fleet mcp` and of workers start the program.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.reduction import DupFd
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.containers.warm"])


class Forked:
    """A `fleet` that runs, or ran; what tests use of a `subprocess.Popen`."""

    def __init__(self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        self.args = ["fleet", *arguments]
        readers, writers = zip(os.pipe(), os.pipe(), strict=True)
        self.stdout: IO[bytes] | None = os.fdopen(readers[0], "rb")
        self.stderr: IO[bytes] | None = os.fdopen(readers[1], "rb")
        ends = [DupFd(writer) for writer in writers]
        receiver, sender = _context.Pipe(duplex=False)
        with receiver:
            with sender:
                self._process = _context.Process(
                    target=_run, args=(tuple(arguments), str(cwd), dict(env), ends, sender)
                )
                self._process.start()
            receiver.recv_bytes()  # the pipes are its own: nobody else holds them if it is killed now
        for writer in writers:
            os.close(writer)
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self._code: int | None = None

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the signal's number; None while it runs."""
        try:
            return self._process.exitcode if self._code is None else self._code
        except ValueError:  # `wait` has just closed it
            return self._code

    def poll(self) -> int | None:
        """See `returncode`."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """It has ended. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        if self._code is None:
            self._process.join(timeout)
            if self.returncode is None:
                assert timeout is not None
                raise subprocess.TimeoutExpired(self.args, timeout)
            self._code = self.returncode
            self._process.close()  # it holds two files, and a stage remembers all that it has started
        assert self._code is not None
        return self._code

    def send_signal(self, number: int) -> None:
        """Send the signal, if it still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _run(
    arguments: Sequence[str], folder: str, environment: Mapping[str, str], ends: Sequence[Any], ready: Connection
) -> None:
    """Be `fleet` with these arguments, as if it had been started."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, end in enumerate(ends, start=1):
        os.dup2(end.detach(), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Those that were there know the files of the process that has forked.
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
    with ready:
        ready.send_bytes(b"ready")
    sys.argv = ["fleet", *arguments]
    from fleet.__main__ import main

    main()
