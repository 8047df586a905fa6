"""What a step works on: one host's part of a plan, and what was last seen of the host."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.inventory import BuildOn
from fleet.steps.load import Load

if TYPE_CHECKING:
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host
    from fleet.model import Closure, Derivation
    from fleet.plans import Part


@dataclass(frozen=True, kw_only=True)
class Job:
    """One host's share of a run."""

    part: Part
    host: Host
    """How the host is reached, with the timeouts and checks that the part has."""
    facts: HostFacts
    load: Load = field(default_factory=Load)
    overtaken: tuple[str, ...] = ()
    """What others have done to the host while it waited for its turn: a line for each transaction."""
    is_surveyed: bool = False
    """Whether the plan was made just now, so that what it says about a reboot still holds."""

    @property
    def closure(self) -> Closure:
        """The closure that the host is to run."""
        return self.part.closure

    @property
    def built_there(self) -> Derivation | None:
        """The derivation that the host builds itself; None if the closure is pushed or exists there."""
        return self.part.derivation if self.part.build_on is BuildOn.TARGET else None
