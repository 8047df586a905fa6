"""Say why sudo did not make us root, with what helps against that."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleet.errors import AuthenticationError
from fleet.events import plain_text
from fleet.inventory import Sudo

if TYPE_CHECKING:
    from fleet.model import HostName

NOT_THERE = 127
"""Exit status of a shell that does not find a command."""
LONGEST_LINE = 500
"""Characters of a line of sudo's that people are shown."""
NO_OPTION = re.compile(
    r"(unrecognized|invalid|illegal|unknown|unexpected|unsupported)[^\n]*(option|argument|flag|switch)", re.I
)


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
    elif sudo is not Sudo.PASSWORD:
        hint = 'set sudo = "password" for this host, or allow the user passwordless sudo'
    return AuthenticationError(name, message, said=lines[-3:], hint=hint)
