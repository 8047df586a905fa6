"""Control one host of a lab: switch its power, and run commands on it without the network."""

from __future__ import annotations

import base64
import os
import secrets
import shlex
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fleet.errors import CommandFailedError, UnreachableError
from fleet.lab.inside import SWITCH, run_inside
from fleet.machine import Output
from fleet.scripts import script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.model import HostName

_PATIENCE = 60.0
"""Seconds that a host has to boot. On an idle machine it takes less than one."""
_BOOTED = ("running", "degraded", "maintenance")
"""systemd's names for the states of a host that has finished booting."""


def _encoded(argv: Sequence[str]) -> str:
    return base64.b64encode(shlex.join(argv).encode()).decode()


_arrived: dict[str, str] = {}
"""For each container the last command whose output has arrived, so that the host may delete its copy."""


@dataclass(frozen=True)
class LabHost:
    """A container that stands for a host."""

    name: HostName
    container: Any

    @property
    def port(self) -> int:
        """The port of its sshd on 127.0.0.1, whether it runs or not."""
        return int(self.container.attrs["HostConfig"]["PortBindings"]["22/tcp"][0]["HostPort"])

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        self.container.reload()
        return bool(self.container.status == "running")

    def exec(self, *argv: str, check: bool = True) -> Output:
        """Run the command on the host as root, without SSH. With `check`, raise `CommandFailedError` if it fails."""
        try:
            output = run_inside(self.container, argv) if SWITCH in os.environ else None
        except ProcessLookupError:
            raise self._went_off(argv) from None
        output = output or self._exec_by_engine(argv)
        return checked(self.name, argv, output) if check else output

    def _went_off(self, argv: Sequence[str]) -> UnreachableError:
        return UnreachableError(self.name, f"went off, or does not say what became of {argv[0]}")

    def _exec_by_engine(self, argv: Sequence[str]) -> Output:
        mark = secrets.token_hex(8)  # printed behind all output, since Docker sometimes loses the output of an exec
        variables = {"LAB_EXEC": _encoded(argv), "LAB_ID": mark, "LAB_DONE": _arrived.get(self.container.id, "none")}
        output = self._asked(script("fleet.lab", "run") + script("fleet.lab", "tell"), variables)
        deadline = time.monotonic() + _PATIENCE
        while not all(text.endswith(mark) for text in (output.stdout, output.stderr)):
            if time.monotonic() > deadline or not self.is_on:
                raise self._went_off(argv)
            output = self._asked(script("fleet.lab", "tell"), variables)
        _arrived[self.container.id] = mark
        stdout, stderr = output.stdout.removesuffix(mark), output.stderr.removesuffix(mark)
        return Output(status=output.status, stdout=stdout, stderr=stderr)

    def _asked(self, text: str, variables: dict[str, str]) -> Output:
        from docker.errors import APIError

        try:
            done = self.container.exec_run(["sh", "-c", text], environment=variables, demux=True)
        except APIError as error:
            raise UnreachableError(self.name, f"is off: {error.explanation}") from error
        stdout, stderr = ((stream or b"").decode(errors="replace").replace("\r\n", "\n") for stream in done.output)
        return Output(status=done.exit_code, stdout=stdout, stderr=stderr)

    def power_off(self) -> None:
        """Kill every process on it, as a power cut does. The disk stays as it is."""
        if self.is_on:
            self.container.kill("SIGKILL")
            self.container.wait()

    def power_on(self) -> str:
        """Boot what its boot loader's files say, and wait until it answers. Return systemd's name for its state."""
        if not self.is_on:
            self.container.start()
        return self.wait()

    def wait(self) -> str:
        """Wait until it has finished booting and its sshd answers.

        Return systemd's name for its state, such as `running`.
        """
        return booted(self, _PATIENCE, every=0.05, hint=f"docker logs {self.container.name}")

    def console(self) -> str:
        """Return the end of what it has written to its console."""
        return str(self.container.logs(tail=10).decode(errors="replace"))

    def state(self) -> str:
        """Return systemd's name for its state; an empty string if it does not answer."""
        try:
            done = self.exec("timeout", "10", "systemctl", "is-system-running", "--wait", check=False)
        except UnreachableError:
            return ""  # it has died meanwhile, as the next look will show
        return done.stdout.strip()


class Bootable(Protocol):
    """A host of a lab while it boots, whatever it is made of."""

    @property
    def name(self) -> HostName:
        """The name of the host."""
        ...

    @property
    def port(self) -> int:
        """The port of its sshd on 127.0.0.1."""
        ...

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        ...

    def console(self) -> str:
        """Return what it has written to its console."""
        ...

    def state(self) -> str:
        """Return systemd's name for its state; an empty string if it does not answer."""
        ...


def booted(host: Bootable, patience: float, *, every: float, hint: str) -> str:
    """Wait until the host has finished booting and its sshd answers. Return systemd's name for its state.

    It is looked at every `every` seconds. Raise `UnreachableError`, with the end of its console, after `patience`
    seconds.
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
    """Return the output of a command that succeeded. Raise `CommandFailedError` if it failed."""
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
