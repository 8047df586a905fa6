"""What hosts tell of their sandboxes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Held(StrEnum):
    """What became of an attempt to leave a sandbox."""

    HELD = "held"
    """It was refused."""
    OPEN = "open"
    """This way was declared to be open."""
    WEAK = "weak"
    """Nobody comes out, but it may take more of the host than it should."""
    UNSEEN = "unseen"
    """Nobody has looked."""
    BROKEN = "broken"
    """It came out, or would."""
    UNKNOWN = "unknown"
    """It could not be tried, so nothing is proven."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One attempt, and what was seen."""

    name: str
    held: Held
    seen: str


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """A sandbox that a host declares."""

    name: str
    backend: str
    """`systemd` or `microvm`."""
    state: str
    """As systemd has it: `active`, `inactive`, `failed`, and others between."""
    address: str
    """Empty where it reaches nobody."""
    left: int | None
    """Seconds until it ends. None where it does not run."""
    packages: str = ""
    """Where it is an agent's: its packages, with their versions."""


@dataclass(frozen=True, kw_only=True)
class SandboxReport:
    """How a sandbox is after it was brought up, taken down or proven."""

    state: str
    left: int | None
    """Seconds until it ends. None where it does not run."""
    holds: bool | None
    """Whether all probes say that it holds. None if nobody has probed."""
    probes: tuple[Probe, ...] = ()
    said: tuple[str, ...] = ()
    """What else the host has to say: why it did not start."""

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        return self.state == "active"
