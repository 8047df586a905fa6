"""A machine is a live thing that runs commands. It knows nothing about NixOS.

`local.py` runs them here, `ssh.py` on a host. Both keep the contract of `Machine`, and so does the fake of the
unit tests (`tests/contract` holds all three to it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from socket import socket

    from fleet.machine.pace import Pace

OnLine = Callable[[str], None]
"""Gets each line of a command's stderr as it comes, without the newline and without control characters."""

CONTACTS = 64
"""Machines that are logged in to, or asked, at once."""
CHANNELS = 6
"""Commands at once on one connection. sshd allows 10 sessions; people's own shells count too."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run. Quoted for a shell only at the last moment, by the machine that needs one."""

    argv: tuple[str, ...]
    stdin: bytes = b""
    timeout: float = 60.0
    """Seconds until the command is given up; its process may live on at the far end."""
    root: bool = True
    """Whether it needs root. A machine whose user is not root uses its elevation for that."""
    keep: int | None = None
    """Bytes of each output that are wanted, the last ones; None is all of stdout, and of stderr what `run` says."""

    def __str__(self) -> str:
        import shlex

        return shlex.join(self.argv)


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a command that ended had to say, decoded as UTF-8 with replacement."""

    status: int
    stdout: str = ""
    stderr: str = ""


class Machine(Protocol):
    """Runs commands, and opens TCP connections from where it stands."""

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        """The command has ended with an exit status, which may be non-zero. Of a stderr that is told line by line, the
        end is in the output: the last MiBs.

        Raises `CommandFailedError` when it did not end in time, died of a signal or (here, where no shell answers
        127 for it) is not there, `UnreachableError` when the connection to it was lost, `AuthenticationError` when
        it could not become root.
        """
        ...

    async def dial(self, host: str, port: int, *, timeout: float) -> socket:
        """A connected stream socket to `host:port` as seen from the machine. Raises `OSError` if refused or late."""
        ...


class RemoteMachine(Machine, Protocol):
    """A machine at the other end of a connection."""

    def bridge(self, command: Command) -> AbstractAsyncContextManager[Bridge]:
        """While open, each connection to the bridge's socket talks to a fresh run of `command` on the machine."""
        ...

    def stream(self, command: Command) -> AbstractAsyncContextManager[Stream]:
        """While open, `command` runs on the machine and its stdin and stdout are bytes for both sides.

        It has no time limit: `command.timeout` and `command.stdin` do not count.
        """
        ...


class Stream(Protocol):
    """A running command on a machine, as a stream of bytes in both directions."""

    async def read(self, count: int) -> bytes:
        """Up to `count` bytes of its stdout, at least one; none at all when that has ended."""
        ...

    async def write(self, data: bytes | memoryview) -> None:
        """The bytes are on their way to its stdin; waits while much is unsent.

        Raises `BrokenPipeError` when it reads no more: `ended` says why.
        """
        ...

    async def ended(self) -> Output:
        """Its exit status, and the last lines of its stderr. Raises `UnreachableError` when the connection was lost."""
        ...


@dataclass
class Bridge:
    """A local UNIX socket whose far end is a command on the machine."""

    socket: Path
    sent: int = 0
    """Bytes that went towards the machine so far."""
    received: int = 0
    last_moved: float = 0.0
    """The event loop's time of the last byte in either direction."""
    pace: Pace | None = None
    """What all that goes towards the machine keeps to."""
    stderr: str = ""
    """What the far commands wrote to stderr, and how they ended where that was no good end."""

    def note(self, text: str) -> None:
        """The text is part of `stderr`, on lines of its own."""
        self.stderr = "\n".join(filter(None, (self.stderr, text.rstrip("\n"))))
