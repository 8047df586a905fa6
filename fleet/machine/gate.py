"""Ask the gate of a host: one line for sshd, instead of a command for a shell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleet.errors import GateError

if TYPE_CHECKING:
    from fleet.machine import Command
    from fleet.model import HostName

PROTOCOLS = (1,)
"""The protocols that we speak to a gate, the newest first: it takes the newest that it speaks too."""
_FOREIGN = re.compile(r"[^ -~]")


def line(name: HostName, command: Command) -> str:
    """Return the line that asks the gate of the host for this. Raise `GateError` if no gate does it."""
    if not command.verb:
        hint = "what a host with a gate does has a name there: services.fleet.gate, docs/signing.md"
        raise GateError(name, f"the gate of this host runs no commands, and this is one: {command}"[:500], hint=hint)
    return " ".join((",".join(map(str, PROTOCOLS)), *map(_word, command.verb)))


def _word(word: str) -> str:
    """Return the word as the gate reads it: gate.sh."""
    plain = _FOREIGN.sub("?", word).replace("%", "%25").replace(" ", "%20")
    return plain or "%"
