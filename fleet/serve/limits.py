"""How much may be asked for, and how often."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_KEYS = 1000
"""Askers that are remembered. The one that has asked longest ago is forgotten first."""


class Bucket:
    """Lets each asker have `burst` at once, and then `per_second`."""

    def __init__(self, burst: float, per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What each asker has left, and when that was so."""

    def take(self, asker: str) -> float:
        """Take one for the asker. Return 0 if there was one, or else in how many seconds there is."""
        now = self._clock()
        left, at = self._left.pop(asker, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        wait = 0.0 if left >= 1 else (1 - left) / self._per_second
        self._left[asker] = (left if wait else left - 1, now)
        while len(self._left) > MOST_KEYS:
            self._left.popitem(last=False)
        return wait
