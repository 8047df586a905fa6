"""One host of a lab: its power switch, and a way in that needs no network."""

from __future__ import annotations

import base64
import secrets
import shlex
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fleet.errors import CommandFailedError, UnreachableError
from fleet.machine import Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.model import HostName

_PATIENCE = 60.0
"""Seconds that a host has to boot; on an idle machine it takes less than one."""
_TELL = 'cat $f.out; printf %s "$id"; cat $f.err >&2; printf %s "$id" >&2; exit "$(cat $f.status)"'
_RUN = (
    'c=$(echo "$LAB_EXEC" | base64 -d) id=$LAB_ID f=/dev/shm/$LAB_ID; rm -f "/dev/shm/$LAB_DONE".*;'
    " unset LAB_EXEC LAB_ID LAB_DONE;"
    f' eval "set -- $c"; setsid --wait "$@" >$f.out 2>$f.err; echo $? >$f.status; {_TELL}'
)
_TELL_AGAIN = f"id=$LAB_ID f=/dev/shm/$LAB_ID; {_TELL}"
"""Docker loses the output of an exec now and then: it ends with a mark, and is kept until it has arrived.

The command is a variable, so that it is on no command line but its own: people look for processes by those. Encoded,
since store paths in a process's environment are roots. It has a
session of its own, so that a `kill 0` in it does not end what waits for it.
"""
_BOOTED = ("running", "degraded", "maintenance")
"""systemd's words for a host that has come to the end of its boot."""


def _encoded(argv: Sequence[str]) -> str:
    return base64.b64encode(shlex.join(argv).encode()).decode()


_arrived: dict[str, str] = {}
"""Of each container, the last command whose output has arrived: what is kept of it may go."""


@dataclass(frozen=True)
class LabHost:
    """A container that stands for a host."""

    name: HostName
    container: Any

    @property
    def port(self) -> int:
        """Where its sshd is published on 127.0.0.1, whether it runs or not."""
        return int(self.container.attrs["HostConfig"]["PortBindings"]["22/tcp"][0]["HostPort"])

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        self.container.reload()
        return bool(self.container.status == "running")

    def exec(self, *argv: str, check: bool = True) -> Output:
        """The command ran on the host as root, around SSH. With `check`, it succeeded or this raises."""
        mark = secrets.token_hex(8)
        variables = {"LAB_EXEC": _encoded(argv), "LAB_ID": mark, "LAB_DONE": _arrived.get(self.container.id, "none")}
        output = self._asked(_RUN, variables)
        deadline = time.monotonic() + _PATIENCE
        while not all(text.endswith(mark) for text in (output.stdout, output.stderr)):
            if time.monotonic() > deadline or not self.is_on:
                raise UnreachableError(self.name, f"went off, or does not say what became of {argv[0]}")
            output = self._asked(_TELL_AGAIN, variables)
        _arrived[self.container.id] = mark
        stdout, stderr = output.stdout.removesuffix(mark), output.stderr.removesuffix(mark)
        output = Output(status=output.status, stdout=stdout, stderr=stderr)
        return checked(self.name, argv, output) if check else output

    def _asked(self, script: str, variables: dict[str, str]) -> Output:
        from docker.errors import APIError

        try:
            done = self.container.exec_run(["sh", "-c", script], environment=variables, demux=True)
        except APIError as error:
            raise UnreachableError(self.name, f"is off: {error.explanation}") from error
        stdout, stderr = ((stream or b"").decode(errors="replace").replace("\r\n", "\n") for stream in done.output)
        return Output(status=done.exit_code, stdout=stdout, stderr=stderr)

    def power_off(self) -> None:
        """Every process on it is gone, as in a power cut. The disk stays as it was."""
        if self.is_on:
            self.container.kill("SIGKILL")
            self.container.wait()

    def power_on(self) -> str:
        """It has booted what its boot loader's files say, and answers. Returns systemd's word for its state."""
        if not self.is_on:
            self.container.start()
        return self.wait()

    def wait(self) -> str:
        """It has finished booting and its sshd answers. Returns systemd's word for its state, such as `running`."""
        return booted(self, _PATIENCE, every=0.05, hint=f"docker logs {self.container.name}")

    def console(self) -> str:
        """The end of what it has written to its console."""
        return str(self.container.logs(tail=10).decode(errors="replace"))

    def state(self) -> str:
        """systemd's word for its state; empty where it does not answer."""
        try:
            done = self.exec("timeout", "10", "systemctl", "is-system-running", "--wait", check=False)
        except UnreachableError:
            return ""  # it died since we looked; the next look says so
        return done.stdout.strip()


class Bootable(Protocol):
    """What a host of a lab is while it boots, whatever it is made of."""

    @property
    def name(self) -> HostName:
        """What it is called."""
        ...

    @property
    def port(self) -> int:
        """Where its sshd is to be found on 127.0.0.1."""
        ...

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        ...

    def console(self) -> str:
        """What it has written to its console."""
        ...

    def state(self) -> str:
        """systemd's word for its state; empty where it does not answer."""
        ...


def booted(host: Bootable, patience: float, *, every: float, hint: str) -> str:
    """The host has finished booting within so many seconds, and its sshd answers. Returns systemd's word for its state.

    It is looked at every so many seconds. Raises `UnreachableError` with the end of its console.
    """
    deadline = time.monotonic() + patience
    state = ""
    while time.monotonic() < deadline and host.is_on:
        state = host.state()
        if state in _BOOTED and greets(host.port):
            return state
        time.sleep(every)
    message = f"does not come up, its state is {state or 'unknown'}" if host.is_on else "went off while booting"
    raise UnreachableError(host.name, message, said=host.console().splitlines()[-10:], hint=hint)


def checked(name: HostName, argv: Sequence[str], output: Output) -> Output:
    """The output of a command that succeeded. Raises `CommandFailedError` for one that did not."""
    if output.status:
        raise CommandFailedError(
            name,
            f"{argv[0]} ended with exit status {output.status}",
            ran=shlex.join(argv),
            said=(output.stdout + output.stderr).splitlines()[-10:],
        )
    return output


def greets(port: int) -> bool:
    """Whether an sshd answers on the port of 127.0.0.1."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
