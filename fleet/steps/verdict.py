"""The verdicts on a new system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.host.answers import View


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
    """The host decided before the controller did."""

    view: View


Verdict = Proven | Condemned | Decided
