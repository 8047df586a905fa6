"""Break silences: say what is waited for where nothing was written for two seconds, in logs and on simple terminals."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SILENCE = 2.0
"""Seconds of silence before the first notice."""
LONGEST = 120.0
"""The most seconds between two notices."""
_TICK = 0.25
"""Seconds between two looks at the clock."""


class Notices:
    """Decides when a notice is due. Not thread-safe: its owner holds a lock.

    While the same thing is waited for, each notice comes after twice the time of the one before, so that a long wait
    does not fill a log.
    """

    def __init__(self, now: float) -> None:
        self._since = now
        self._gap = SILENCE
        self._subject: str | None = None

    def written(self, now: float) -> None:
        """Note that something was written: that ends a silence."""
        self._since, self._gap, self._subject = now, SILENCE, None

    def is_due(self, subject: str, now: float) -> bool:
        """Return whether a notice is to be written now, and count it as written then."""
        if subject != self._subject:
            self._gap = SILENCE
        if now < self._since + self._gap:
            return False
        self._gap = min(2 * self._gap, LONGEST)
        self._since, self._subject = now, subject
        return True


class Ticker:
    """Calls `tick` some times a second in a thread of its own, while inside: also where nothing else runs."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet-notices", daemon=True)

    def _run(self) -> None:
        while not self._over.wait(_TICK):
            self._tick()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
