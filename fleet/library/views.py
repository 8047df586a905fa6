"""What a look at a host returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.host.facts import HostFacts
    from fleet.model import CheckAnswer


@dataclass(frozen=True, kw_only=True)
class Health:
    """What the checks of a host answered when each was asked once."""

    facts: HostFacts
    checks: tuple[CheckAnswer, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether every check passes and no unit has failed."""
        return all(answer.passed for answer in self.checks) and not self.facts.failed_units
