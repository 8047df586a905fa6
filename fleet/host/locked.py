"""Say who is at work on a host, why, since when and until when, and what to do about it. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import LockedError
from fleet.text import local_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.host.facts import OpenTransaction
    from fleet.host.tickets import Ticket
    from fleet.inventory import Host

CLOCK = "%H:%M:%S"


def locked(host: Host, held: OpenTransaction, waiting: Sequence[Ticket] = ()) -> LockedError:
    """Return the error that says whose transaction is open, and when that closes by itself.

    Its controller may renew its deadline for as long as it proves.
    """
    message = f"a transaction is open: {held}, since {local_time(held.since, CLOCK)}{_why(held.intent)}"
    closes = f"it closes by itself {held.closes_in} s after its controller is gone"
    if held.closes_in < 0:
        closes = f"its deadline passed {-held.closes_in} s ago: it is closing, unless its keeper is stopped"
    return LockedError(host.name, message, hint=_hint(host, closes, waiting))


def queued(host: Host, waiting: Sequence[Ticket]) -> LockedError:
    """Return the error that says who waits for a turn and begins before anybody else. At least one does."""
    first = waiting[0]
    since = local_time(first.since, CLOCK)
    message = (
        f"others come first: run {first.run} of {first.whose} is next, and waits since {since}{_why(first.intent)}"
    )
    until = f"that one begins within 30 s, or gives up within {first.waits} s"
    return LockedError(host.name, message, hint=_hint(host, until, waiting[1:]))


def waited_in_vain(host: Host, seconds: float, error: LockedError) -> LockedError:
    """Return the error of a host that has waited so long for a turn, by the error that it would have had at once."""
    message = f"waited {seconds:g} s for a turn in vain: {error.message}"
    return LockedError(host.name, message, hint=f"a longer --wait; fleet who {host.name} shows who is at work")


def _why(intent: str) -> str:
    return f" ({intent})" if intent else ""


def _hint(host: Host, until: str, waiting: Sequence[Ticket]) -> str:
    others = f"{len(waiting)} more before you" if waiting else ""
    remedy = f"fleet deploy {host.name} --wait 10m waits for a turn; fleet who {host.name} shows who is at work"
    return "; ".join(filter(None, (until, others, remedy)))
