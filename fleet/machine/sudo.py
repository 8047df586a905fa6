"""Become root with sudo, on a host or here, and say why where that fails, with what helps against it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import AnswerError, AuthenticationError, ConfigError, UnreachableError
from fleet.events import plain_text
from fleet.inventory import Sudo
from fleet.scripts import one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleet.errors import HostError
    from fleet.machine.bounds import Outputs
    from fleet.model import HostName

PROMPT = "fleet: sudo password:"
ELEVATED = "fleet: elevated"
LECTURE = 64 << 10
"""Bytes that sudo may say, at most, until it has made us root."""
LONGEST_PASSWORD = 255
"""Bytes. sudo reads no more of it everywhere."""
NOT_THERE = 127
"""Exit status of a shell that does not find a command."""
LONGEST_LINE = 500
"""Characters of a line of sudo's that people are shown."""
NO_OPTION = re.compile(
    r"(unrecognized|invalid|illegal|unknown|unexpected|unsupported)[^\n]*(option|argument|flag|switch)", re.I
)
WANTS_PASSWORD = re.compile("password|authentication is required", re.I)
"""What sudo and sudo-rs say where a password would help. In another language the hint is the general one."""


class Secret:
    """A password. It is never part of an argv, an event or a repr, and is sent on stdin only."""

    def __init__(self, text: str) -> None:
        """Raise `ConfigError` for what sudo would not take as a whole: the rest would go to a command that is root."""
        self._text = text
        data = text.encode(errors="surrogateescape")
        if len(data) > LONGEST_PASSWORD or any(end in data for end in b"\n\r\0"):
            message = f"the sudo password has a line break or a NUL in it, or more than {LONGEST_PASSWORD} bytes"
            raise ConfigError(message, hint="sudo would read a part of it; does it come from a file with more lines?")

    def reveal(self) -> str:
        return self._text

    def line(self) -> bytes:
        """Return the line that is sent to sudo."""
        return self._text.encode(errors="surrogateescape") + b"\n"

    def __repr__(self) -> str:
        return "***"


def elevated(argv: tuple[str, ...], sudo: Sudo) -> tuple[str, ...]:
    """Return the command so that sudo makes it root."""
    # Not -n: it forbids PAM to let somebody in who needs no password, as by a forwarded agent. Without a terminal and
    # without -S sudo asks nobody either.
    ask = ("-k", "-S", "-p", PROMPT) if sudo is Sudo.PASSWORD else ()
    return ("sudo", *ask, "--", "sh", "-c", one_line("fleet.machine", "be-root"), "sh", *argv)


@dataclass(frozen=True, kw_only=True)
class Elevation:
    """One command of `elevated` that has been started, on its way to become root."""

    name: HostName
    """The host that it runs on."""
    user: str
    sudo: Sudo
    outputs: Outputs
    ended: Callable[[], Awaitable[int | None]]
    """Waits for its end, and returns its exit status; None if the connection was lost."""

    async def complete(self, give_password: Callable[[], None] | None) -> None:
        """Let the command become root. Nothing but the password has gone to its stdin when this returns.

        `give_password` writes that to stdin; it is None if there is no password. Raise what it raises,
        `AuthenticationError` if sudo refuses, `AnswerError` if it says too much, and `UnreachableError` if the
        connection was lost.
        """
        prompt, success, said, prompts = PROMPT.encode(), ELEVATED.encode() + b"\n", b"", 0
        while not said.endswith(success):
            said += await self.outputs.until(prompt, success, most=LECTURE)
            if said.endswith(prompt):
                prompts += 1
                if prompts > 1 or give_password is None:
                    raise AuthenticationError(self.name, "sudo password refused", hint="type it again")
                give_password()
            elif not said.endswith(success):
                raise await self._refusal(said)

    async def _refusal(self, said: bytes) -> HostError:
        """Return the error that says why sudo did not make us root. `said` is all that it wrote."""
        if len(said) >= LECTURE:
            return AnswerError(self.name, f"sudo says more than {LECTURE >> 10} KiB and does not make us root")
        status = await self.ended()
        if status is None:
            return UnreachableError(self.name, "connection lost while becoming root")
        return sudo_refusal(self.name, self.user, self.sudo, status, said)


def sudo_refusal(name: HostName, user: str, sudo: Sudo, status: int, said: bytes) -> AuthenticationError:
    """Return the error of host `name`, where sudo ended with this status for `user` and `said` all this."""
    text = plain_text(said.decode(errors="replace")).strip()
    lines = [line[:LONGEST_LINE] for line in text.splitlines()]
    message, hint = "sudo refused", f"may {user} run any command there? try: fleet ssh {name} sudo -l"
    if status == NOT_THERE or "sudo: not found" in text:
        message = "sudo is not there"
        hint = 'install it (security.sudo.enable), or set user = "root" for this host'
    elif NO_OPTION.search(text):
        message = "sudo there does not know the options that a password needs: -k, -S and -p"
        hint = "let it be sudo, or sudo-rs 0.2.5 or later, or allow the user passwordless sudo and set sudo = true"
    elif sudo is not Sudo.PASSWORD and WANTS_PASSWORD.search(text):
        hint = 'set sudo = "password" for this host, or allow the user passwordless sudo'
    return AuthenticationError(name, message, said=lines[-3:], hint=hint)
