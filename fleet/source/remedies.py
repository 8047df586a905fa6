"""Say what to do where Nix refuses a flake for a reason that has nothing to do with its contents."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleet.errors import EvaluationError
from fleet.source import tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet.machine import Machine
    from fleet.model import Finding

_NOT_OURS = re.compile(r"detected dubious ownership in repository at '([^']+)'|repository path '([^']+)' is not owned")
_MISSING = re.compile(r"attribute '([^']+)' missing")
_NOT_TRUSTED = re.compile(r"ignoring untrusted flake configuration setting '([^']+)'")
MOST = 5
"""The most files that a hint names."""


async def explained(here: Machine, flake: str, error: EvaluationError) -> EvaluationError:
    """Return the error with a hint for what git keeps from Nix: a whole repository, or files that it does not know."""
    if error.hint:
        return error
    if hint := ownership(error.said) or missing(error.said):
        return EvaluationError(error.message, said=error.said, hint=hint)
    found = await tree.look(here, flake)
    if found is None or not (hint := untracked(tree.unseen(found))):
        return error
    return EvaluationError(error.message, said=error.said, hint=hint)


def ownership(lines: Iterable[str]) -> str:
    """Return what to do if git refuses a repository of somebody else; nothing if it does not."""
    for line in lines:
        if found := _NOT_OURS.search(line):
            place = found[1] or found[2]
            return f"{place} belongs to another user: git config --global --add safe.directory {place}"
    return ""


def missing(lines: Sequence[str]) -> str:
    """Return what to do about a host whose attribute the flake does not have; nothing if something else is missing."""
    is_asked_here = any("string»:" in line or "(string)" in line for line in lines)  # by fleet, and by no file
    names = [found[1] for line in lines if (found := _MISSING.search(line))]
    if not names or not is_asked_here:
        return ""
    return f"the flake has no {names[-1]} there: write it, or correct attr in fleet.toml, or remove the host there"


def untracked(unseen: list[Finding]) -> str:
    """Return what to do about files that Nix does not see; nothing if there are none."""
    names = [finding.hint.removeprefix("git add ").removesuffix(", or remove it") for finding in unseen]
    if not names:
        return ""
    more = f"; and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"Nix sees only what git knows: git add {' '.join(names[:MOST])}{more}"


def ignored_settings(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the settings of the flake's nixConfig that Nix has not used, each once."""
    return tuple(dict.fromkeys(found[1] for line in lines if (found := _NOT_TRUSTED.search(line))))
