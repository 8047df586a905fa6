"""The events of a run that cannot be recorded for a while. They are as public as those of `kinds`."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.events.kinds import Event


@dataclass(frozen=True, kw_only=True)
class RecordingLost(Event):
    """What the run tells cannot be written to the state now. No host begins that would need it."""

    why: str


@dataclass(frozen=True, kw_only=True)
class RecordingResumed(Event):
    """All that the run has told is written to the state after all."""

    seconds: float
    """How long it could not be."""
