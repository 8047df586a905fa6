"""What hosts with a gate want besides: a plan that says what becomes of the gate, and contents that they take."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import GateError, UnfitError
from fleet.files import read_file
from fleet.host import answers
from fleet.host.program import refusal
from fleet.machine import Command
from fleet.text import plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.host.facts import HostFacts
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import Closure

FILES = Path("etc/fleet/gate")
"""What a system says of its gate. gate.sh has the same place."""
LARGEST = 1 << 20
"""Bytes of one such file, at most."""
PATIENCE = 120.0
"""Seconds in which a host compares some thousand paths."""
CHANGES = {
    "on": "gate on: from then on this host wants signed plans from every login by its gate",
    "off": "gate off: this host asks nobody any more",
    "change": "gate change: who may approve, or how, is another from then on; the new gate has to agree as well",
}
"""What people are told of what a part says about the gate."""


def gate_of(closure: Closure) -> str:
    """Return a digest of the gate that a closure in the local store has; nothing if it has none. Reads files.

    `gate_of` of the host program makes the same. Raise `UnfitError` if its files cannot be read.
    """
    folder = Path(closure) / FILES
    names = sorted(f"./{file.relative_to(folder)}" for file in folder.rglob("*") if file.is_file())
    if not names:
        return ""
    lines = (f"{hashlib.sha256(read_file(folder / name, most=LARGEST)).hexdigest()}  {name}\n" for name in names)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def change_of_gate(old: str, new: str) -> str:
    """Return what a part says of the gate that goes from the one digest to the other: nothing if it stays."""
    if old == new:
        return ""
    return "change" if old and new else "on" if new else "off"


def require_way_back(host: Host, facts: HostFacts, closure: Closure) -> None:
    """Raise `GateError` if the host would not go back to this closure without signatures."""
    if not host.gate:
        return
    hint = f"deploy the revision that it was made from: fleet plan {host.name} --sign"
    if closure != facts.previous:
        raise GateError(host.name, "its gate lets nobody go back further than to the system before", hint=hint)
    if facts.gate != facts.gate_previous:
        raise GateError(host.name, f"{closure} has another gate than the system that runs", hint=hint)


async def compare_contents(machine: Machine, host: Host, hashes: Mapping[str, str]) -> bool:
    """Return whether the host has some of these paths with another hash, and takes that.

    Raise `UnfitError`, which names the path, who has signed it there and what helps, if it would refuse that.
    """
    stdin = "".join(f"{path} {digest}\n" for path, digest in hashes.items()).encode()
    command = Command(argv=("fleet-gate", "contents"), stdin=stdin, timeout=PATIENCE, verb=("contents",))
    output = await machine.run(command)
    lines = answers.parse(output.stdout)
    if "refused" in lines:
        raise refusal(host, lines)
    if refused := lines.get("untrusted"):
        message, *more = [plain_text(line)[:500] for line in refused]
        hint = (
            "plan with what this host has, or name who built that in services.fleet.gate.contentKeys, or delete the"
            " path there: Nix replaces none that it has"
        )
        raise UnfitError(host.name, message, said=more, hint=hint)
    return "differs" in lines
