"""Say where an event belongs: in which run, at which place in it, when it happened, and who acted."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.events.kinds import Event
    from fleet.model import RunId


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """An event and its place in a run. `run_started` and `run_finished` name the same run in a field of their own."""

    version: ClassVar[int] = 1
    """The version of the format. A higher one cannot be read here. Added fields do not raise it."""

    run: RunId
    seq: int
    """Counted from 1 in each run, through all processes that work on it. 0 if it is not known."""
    at: float
    """When the event became true, in seconds since 1970, to the millisecond. 0 if it is not known."""
    by: str
    """Who acted: the user, or the program that acts for one. Empty if it is not known."""
    event: Event


class Envelopes:
    """Puts the events of one run into envelopes, and numbers them.

    `after` is the number of the run's last event so far: a resumed run goes on counting.
    """

    def __init__(self, run: RunId, by: str, *, after: int = 0, clock: Callable[[], float] = time.time) -> None:
        self._run = run
        self._by = by
        self._numbers = itertools.count(after + 1)
        self._clock = clock

    def wrap(self, event: Event) -> Envelope:
        """Return the event in the next envelope of its run."""
        at = round(self._clock(), 3)  # rounded as `encode` does, so that what is read back is equal
        return Envelope(run=self._run, seq=next(self._numbers), at=at, by=self._by, event=event)
