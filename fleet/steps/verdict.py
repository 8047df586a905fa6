"""The verdicts on a new system, and how a proof has come to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.host.answers import View
    from fleet.model import CheckAnswer


@dataclass(frozen=True)
class Proven:
    """The new system was healthy for `settle` without a break. The host was told to commit."""

    seconds: float


@dataclass(frozen=True)
class Condemned:
    """The system was found bad, or could not be proven. The host was told to go back, if it could be reached."""

    reason: str
    found: bool
    """Whether the new system was seen to be bad, and not merely silent."""


@dataclass(frozen=True)
class Decided:
    """The host decided before the controller did, or somebody else proves it by now."""

    view: View


Verdict = Proven | Condemned | Decided


@dataclass(frozen=True, kw_only=True)
class Proof:
    """How a proof ended, and what was seen in it."""

    verdict: Verdict
    heard: float
    """The loop's time of the last look, which renewed the host's deadline."""
    lost: str
    """Why there was no look since then. Empty if looking worked to the end."""
    answers: tuple[CheckAnswer, ...]
    """The last answer of each check."""
    answer: View | None
    """What the host has answered to the word, if it has one and has answered."""
