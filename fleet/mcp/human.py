"""What only a person may do: the commands to paste, each for a shell, wherever it is pasted. Pure functions."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.inventory import Inventory
    from fleet.mcp.answers import Document
    from fleet.model import HostName
    from fleet.plans import Plan


def command(inventory: Inventory, *words: str) -> str:
    """Return the command line of `fleet` with these words, about this fleet."""
    return shlex.join(["fleet", *words, "--file", str(inventory.path)])


def approves(inventory: Inventory, plan: Plan, file: str | None) -> Document:
    """Say how a person approves a plan: here, or on a machine of their own with the file of the plan."""
    there = (
        f"or elsewhere: copy {file} there, fleet approve {shlex.quote(file.rpartition('/')[2])}, and copy what that"
        f" writes back to {file}.signatures"
        if file is not None
        else None
    )
    return {"command": command(inventory, "approve", plan.digest), "elsewhere": there}


def applies(inventory: Inventory, plan: Plan, hosts: Iterable[HostName]) -> Document:
    """Say how a person applies a plan that agents may not apply."""
    chosen = [] if set(hosts) == set(plan.hosts) else list(hosts)
    return {"command": command(inventory, "apply", plan.digest, *chosen), "elsewhere": None}


def resumes(inventory: Inventory, run: str) -> Document:
    """Say how a person learns what became of a run whose process was lost."""
    return {"command": command(inventory, "resume", run), "elsewhere": None}


def goes_back(inventory: Inventory, hosts: Iterable[str]) -> Document:
    """Say how a person takes hosts back where agents may not."""
    return {"command": command(inventory, "rollback", *hosts), "elsewhere": None}
