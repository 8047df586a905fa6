"""Read what a host remembers of its transactions. Pure functions."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.host.answers import State, as_written
from fleet.plans.text import NONE
from fleet.text import plain_text, whole_number

if TYPE_CHECKING:
    from fleet.host.answers import Lines
    from fleet.model import Closure, RunId, Serial


ORDERED = ("by", "origin", "source", "intent")
"""The fields that a history has as the order had them."""

FIRST_FIELDS = 15
"""The fields that an entry had at first. What has come since is missing in older ones."""
_REVISION = re.compile(r" rev ([0-9a-f]{7,64}) (clean|dirty)$")
"""The end of a source as a plan writes it."""


@dataclass(frozen=True, kw_only=True)
class PastTransaction:
    """A transaction that a host had, as its history tells it."""

    serial: Serial
    run: RunId
    by: str
    origin: str
    began: int
    ended: int
    """Seconds since 1970, by the host's clock, like `began`."""
    old: Closure
    new: Closure
    state: State
    blame: str
    part: str
    plan: str
    """The digest of the plan that asked for it, as `part` is that of the part. Both are empty if none did."""
    source: str
    intent: str
    reason: str
    ledger: str = ""
    """The head of the ledger of whoever asked for it: its id, its size and a hash. Empty if none came with it."""

    @property
    def revision(self) -> str:
        """The commit that `new` was evaluated from, with `-dirty` if there were changes that no commit has.

        Empty if that is not known.
        """
        found = _REVISION.search(self.source)
        return f"{found[1]}{'' if found[2] == 'clean' else '-dirty'}" if found else ""


def entries(lines: Lines) -> tuple[PastTransaction, ...]:
    """Return the transactions in an answer to `history`, oldest first. Lines that are no entry are left out."""
    return tuple(entry for line in lines.get("history", ()) if (entry := _parse_entry(line)) is not None)


def _parse_entry(line: str) -> PastTransaction | None:
    """Return the transaction that a line of the history tells of; None if the line is no entry."""
    values, names = line.split("\t"), [field.name for field in dataclasses.fields(PastTransaction)]
    if not FIRST_FIELDS <= len(values) <= len(names):
        return None
    told = {
        name: as_written(value) if name in ORDERED else plain_text("" if value == NONE else value)
        for name, value in zip(names, values, strict=False)
    }
    numbers = {name: whole_number(told[name]) for name in ("began", "ended")}
    return PastTransaction(**{**told, **numbers, "state": State(told["state"])})  # type: ignore[arg-type]
