"""Read who waits for a turn on a host. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.host.answers import as_written
from fleet.model import RunId
from fleet.text import plain_text, whole_number

if TYPE_CHECKING:
    from fleet.host.answers import Lines

FIELDS = 7


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """A run that waits for its turn on a host."""

    number: int
    """The lower it is, the earlier is its turn."""
    run: RunId
    since: int
    """Seconds since 1970, by the host's clock."""
    waits: int
    """Seconds that it waits on, at most."""
    by: str
    origin: str
    """The machine that it waits on. Empty if it does not say."""
    intent: str

    @property
    def whose(self) -> str:
        """Who waits, and where: `bob from train`."""
        return who(self.by, self.origin)


def who(by: str, origin: str) -> str:
    """Return who acts, and from where if that is known: `bob from train`."""
    return f"{by} from {origin}" if origin else by


def tickets(lines: Lines) -> tuple[Ticket, ...]:
    """Return the tickets in an answer, the oldest first. Lines that are no ticket are left out."""
    rows = [line.split("\t") for line in lines.get("waiting", ())]
    found = (_ticket(*row) for row in rows if len(row) == FIELDS)
    return tuple(sorted(found, key=lambda ticket: ticket.number))


def _ticket(number: str, run: str, since: str, waits: str, *words: str) -> Ticket:
    by, origin, intent = map(as_written, words)
    return Ticket(
        number=whole_number(number),
        run=RunId(plain_text(run)),
        since=whole_number(since),
        waits=whole_number(waits),
        by=by,
        origin=origin,
        intent=intent,
    )
