"""What was seen of a switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.host.answers import View
    from fleet.model import CheckAnswer
    from fleet.steps.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Everything that was seen of a switch, up to its end."""

    end: View
    verdict: Verdict
    before: Mapping[str, CheckAnswer]
    answers: tuple[CheckAnswer, ...] = ()
    """The last answers of the checks about the new system."""
    said: tuple[str, ...] = ()
    """The last lines that the switch wrote."""
    silence: str = ""
    """What kept the host from answering meanwhile. Empty if nothing did."""
