"""Machines run commands. They know nothing about NixOS.

`local.py` runs commands here, `ssh.py` on a host, and `own.py` here where this machine is a host. All keep the contract
of `Machine`, and so does the fake of the unit tests; `tests/contract` tests them against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from fleet.inventory import Host
    from fleet.machine.pace import Pace

OnAnswer = Callable[[], None]
"""Is called as soon as somebody answers at the address of a host: a TCP connection stands, and the login goes on."""
OnLine = Callable[[str], None]
"""Takes each line of a command's stderr as it comes, without the newline and without control characters. Of very long
lines it gets the beginning, and of a flood of lines a part, with a line that says how many are left out."""

CONTACTS = 64
"""How many machines are logged in to, or asked, at once."""
CONNECT_TIMEOUT = 5.0
"""Seconds within which a TCP connection to a host comes about, where neither fleet.toml nor the SSH configuration says
otherwise."""
CHANNELS = 6
"""Commands at once on one connection. sshd allows 10 sessions, and people's own shells count too."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run. It is quoted for a shell only at the last moment, by a machine that needs it."""

    argv: tuple[str, ...]
    stdin: bytes = field(default=b"", repr=False)
    """It may have secrets in it."""
    timeout: float = 60.0
    """Seconds after which the command is given up. Its process may live on at the far end, unless it `ends_with_us`."""
    ends_with_us: bool = False
    """Whether it is ended, with all that it has started, when it is given up or this machine goes away. It gets no
    input, and `stdin` must be empty."""
    root: bool = True
    """Whether it needs root. A machine whose user is not root uses sudo for that."""
    keep: int | None = None
    """How many of the last bytes of each output are kept, however long it is. None keeps all of stdout, up to `most`,
    and of stderr the last MiB."""
    most: int | None = None
    """How many bytes an answer on stdout may have. None leaves that to the machine."""

    name: str = ""
    """What people are told that it is, where `argv` is too long for them."""
    verb: tuple[str, ...] = field(default=(), compare=False)
    """What the gate of a host calls it, and its words there. Empty: no gate does it."""

    @property
    def program(self) -> str:
        """What errors call it: its name, or else the program that it runs."""
        return self.name or self.argv[0]

    def __str__(self) -> str:
        import shlex

        return self.name or shlex.join(self.argv)


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a command wrote and how it ended. Text is decoded as UTF-8; invalid bytes are replaced."""

    status: int
    stdout: str = ""
    stderr: str = ""
    left_out: int = 0
    """How many bytes of both were too many to keep. They are missing at the beginning."""


class Machine(Protocol):
    """Runs commands, and opens TCP connections from its place in the network."""

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        """Run the command to its end and return its output. Its exit status may be non-zero.

        Of stderr it has only the last MiB. Raise `CommandFailedError` if the command did not end in time, died of a
        signal, or does not exist (here; a remote shell answers 127), `AnswerError` if its answer is too long,
        `UnreachableError` if the connection was lost, and `AuthenticationError` if it could not become root.
        """
        ...

    def dial(self, host: str, port: int, *, timeout: float) -> AbstractAsyncContextManager[TcpStream]:
        """Open a TCP connection to `host:port` from the machine, while inside. Nothing of it is left afterwards.

        `timeout` is in seconds, for connecting only. Raise `OSError` if it is refused or too late.
        """
        ...


class TcpStream(Protocol):
    """A TCP connection as a stream of bytes in both directions."""

    async def read(self, count: int) -> bytes:
        """Return 1 to `count` bytes as soon as there are any, or no bytes at the end of the stream.

        Raise `OSError` if the connection broke, and `UnreachableError` if the connection to the machine was lost.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Send the bytes; wait while many are unsent. Raises what `read` raises."""
        ...


class RemoteMachine(Machine, Protocol):
    """A machine at the other end of a connection."""

    @property
    def host_key(self) -> str:
        """The fingerprint of the key that it has proven to hold, as `ssh-keygen -l` prints it: `SHA256:…`."""
        ...

    def bridge(self, command: Command) -> AbstractAsyncContextManager[Bridge]:
        """Open a socket, while inside. Each connection to it talks to a new run of `command` on the machine."""
        ...

    def stream(self, command: Command) -> AbstractAsyncContextManager[Stream]:
        """Run `command` on the machine, while inside, with its stdin and stdout as a stream of bytes.

        There is no time limit: `command.timeout` and `command.stdin` do not count.
        """
        ...


class Connector(Protocol):
    """Opens connections to hosts."""

    def connect(self, host: Host, *, on_answer: OnAnswer | None = None) -> AbstractAsyncContextManager[RemoteMachine]:
        """Open a new connection to the host, and close it on the way out.

        Raise `UnreachableError`, `AuthenticationError` or `HostKeyError`, and `UnfitError` if no address leads there.
        """
        ...

    def link(self, host: Host, *, pace: Pace | None = None) -> Link:
        """Return a link to the host, which connects when it is first used. What is sent goes at this pace."""
        ...


class Link(RemoteMachine, Protocol):
    """The connection to one host for a whole run: a machine that connects again after its connection was lost."""

    @property
    def host(self) -> Host:
        """The host at the other end."""
        ...

    @property
    def is_here(self) -> bool:
        """Whether the host is this very machine, and reached without SSH."""
        ...

    @property
    def shortfall(self) -> str:
        """What people should know of the fresh connections so far: why they prove less than a login by SSH does.

        Empty if each was one.
        """
        ...

    async def open(self, *, on_answer: OnAnswer | None = None) -> None:
        """Connect, unless the link is connected.

        Raises what `connect` raises.
        """
        ...

    def fresh(self) -> AbstractAsyncContextManager[RemoteMachine]:
        """Open a new connection beside the old one, to prove that the host still lets people in.

        Raises what `connect` raises.
        """
        ...

    async def rehearse(self) -> None:
        """Try before the switch what `fresh` will do afterwards, where a link does not know yet that this works.

        Raises what `connect` raises.
        """
        ...

    async def close(self) -> None:
        """Close the connection. The link can be used again, and connects then."""
        ...


class Stream(Protocol):
    """A running command on a machine, as a stream of bytes in both directions."""

    async def read(self, count: int) -> bytes:
        """Return 1 to `count` bytes of its stdout as soon as there are any, or no bytes at the end."""
        ...

    async def write(self, data: bytes | memoryview) -> None:
        """Send the bytes to its stdin; wait while many are unsent.

        Raise `BrokenPipeError` if it reads no more; `ended` says why.
        """
        ...

    @property
    def waiting(self) -> int:
        """How many bytes were written and have not reached the other end yet, as far as this machine can tell."""
        ...

    async def ended(self) -> Output:
        """Wait for its end, and return its exit status and the last lines of its stderr.

        Raise `UnreachableError` if the connection was lost.
        """
        ...


@dataclass
class Bridge:
    """A local UNIX socket whose far end is a command on the machine."""

    socket: Path
    sent: int = 0
    """Bytes sent towards the machine so far."""
    received: int = 0
    last_moved: float = 0.0
    """The event loop's time of the last byte in either direction."""
    pace: Pace | None = None
    """Limits what is sent towards the machine."""
    stderr: str = ""
    """What the far commands wrote to stderr, and how they ended if they failed."""

    def note(self, text: str) -> None:
        """Add the text to `stderr`, on lines of its own."""
        self.stderr = "\n".join(filter(None, (self.stderr, text.rstrip("\n"))))
