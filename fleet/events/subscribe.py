"""Pass events from the work to whoever listens."""

from __future__ import annotations

from collections.abc import Callable

from fleet.events.kinds import Event

Emit = Callable[[Event], None]
"""Takes an event. Called and not awaited: the order is certain, and nothing is lost at exit. Subscribers must be
quick."""


def fan_out(*subscribers: Emit) -> Emit:
    """Return one `Emit` that passes each event to every subscriber, in order."""

    def emit(event: Event) -> None:
        for subscriber in subscribers:
            subscriber(event)

    return emit
