"""Write commands so that every login shell passes them on: tcsh, fish, xonsh and others quote in ways of their own.

A line of plain words means the same to all of them. Any other command is read by `sh` from its stdin, as the first line
there, and the login shell sees one line that never changes.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from fleet.scripts import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_.,/:@+-]*|-[A-Za-z0-9-]*")
"""Words that no shell expands, wherever they stand."""
NEWLINE = "'\"$fleet_newline\"'"
"""What stands for a newline inside of quotes."""
SET_NEWLINE = 'fleet_newline=$(printf "\\n.") && fleet_newline=${fleet_newline%.} && '


def asked(argv: Sequence[str]) -> tuple[str, bytes]:
    """Return the line for the login shell, and what goes to the command's stdin before its own input."""
    if all(map(PLAIN.fullmatch, argv)):
        return " ".join(argv), b""
    return reader("read-command"), line(argv)


def line(argv: Sequence[str]) -> bytes:
    """Return the one line, with its end, on which `sh` becomes the command."""
    words = shlex.join(argv)
    start = SET_NEWLINE if "\n" in words else ""
    return f"{start}exec {words.replace(chr(10), NEWLINE)}\n".encode()


def reader(script: str) -> str:
    """Return the line for the login shell that becomes one of this package's scripts.

    Not all shells that only run a command pass on its exit status, or the signal that it died of.
    """
    return f"exec sh -c '{one_line('fleet.machine', script)}'"


def ended_with_us(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the command so that it ends when its stdin does, which is when nobody waits for it any more."""
    return ("sh", "-c", one_line("fleet.machine", "end-with-us"), "sh", *argv)
