"""Call the program of sandboxes on a host, and read its answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleet.errors import AnswerError, CommandFailedError, UnfitError
from fleet.machine import Command
from fleet.sandbox.report import Held, Probe, Sandbox, SandboxReport
from fleet.text import plain_text, whole_number

if TYPE_CHECKING:
    from fleet.machine import Link

PROGRAM = "/etc/fleet/sandbox"
"""The program on a host that has `services.fleet.sandbox`."""
NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
"""What a sandbox may be called."""
TIMEOUT = 300.0
"""Seconds. The units that it starts have two minutes each."""
MOST_ANSWER = 256 << 10
MOST_ROWS = 200
"""Sandboxes or probes that are read of one answer, at most."""
_MISSING = (126, 127)


async def list_sandboxes(link: Link) -> tuple[Sandbox, ...]:
    """Return the sandboxes that the host declares. Raise `HostError` if it cannot be asked, or has no such program."""
    rows = await _ask(link, "list")
    return tuple(_sandbox(row) for row in rows if row[0] == "sandbox" and len(row) == 7)


async def act(link: Link, verb: str, name: str) -> SandboxReport:
    """Let the host do `up`, `down`, `reset` or `prove` with the sandbox, and return how it is then.

    Raise `HostError` if it cannot be asked, or declares no such sandbox.
    """
    rows = await _ask(link, verb, name)
    states = [row for row in rows if row[0] == "state" and len(row) == 3]
    if not states:
        raise AnswerError(link.host.name, f"the answer about the sandbox {name} lacks its state")
    proofs = [row[1] for row in rows if row[0] == "proof" and len(row) == 2]
    return SandboxReport(
        state=states[-1][1],
        left=_left(states[-1][2]),
        holds=proofs[-1] == "held" if proofs else None,
        probes=tuple(_probe(row) for row in rows if row[0] == "probe" and len(row) == 4),
        said=tuple(" ".join(row[1:]) for row in rows if row[0] == "said"),
    )


async def _ask(link: Link, *words: str) -> list[list[str]]:
    """Return the fields of each line of the answer, which came to its end."""
    host = link.host
    output = await link.run(Command(argv=(PROGRAM, *words), timeout=TIMEOUT, most=MOST_ANSWER))
    if output.status in _MISSING:
        hint = "enable services.fleet.sandbox for it, and deploy: docs/sandbox.md"
        raise UnfitError(host.name, "it has no sandboxes", hint=hint)
    said = output.stderr.splitlines()[-5:]
    if output.status != 0:
        message = plain_text(said[-1]) if said else f"the program of sandboxes failed with exit status {output.status}"
        raise CommandFailedError(host.name, message, said=said[:-1])
    lines = output.stdout.splitlines()
    if not lines or lines[-1] != "end":
        raise AnswerError(host.name, "the answer about sandboxes was cut short", said=said)
    return [[plain_text(field)[:500] for field in line.split("\t")] for line in lines[:MOST_ROWS]]


def _sandbox(row: list[str]) -> Sandbox:
    _, name, backend, state, address, left, packages = row
    return Sandbox(name=name, backend=backend, state=state, address=address, left=_left(left), packages=packages)


def _probe(row: list[str]) -> Probe:
    _, name, held, seen = row
    return Probe(name=name, held=Held(held) if held in list(Held) else Held.UNKNOWN, seen=seen)


def _left(text: str) -> int | None:
    return max(0, whole_number(text)) if text else None
