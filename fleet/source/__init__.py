"""What evaluating the hosts of a flake leaves open: its lock file, its files, and outputs that nobody looked at.

`lock` reads flake.lock, `tree` the files, `secrets` and `commands` what is in them, `outputs` asks Nix.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleet.model import Severity


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is wrong with a flake, or that one should know of it."""

    kind: str
    """Stable word for scripts."""
    message: str
    hint: str = ""
    severity: Severity = Severity.ERROR
    """A note does not change the exit code."""


__all__ = ["Finding"]
