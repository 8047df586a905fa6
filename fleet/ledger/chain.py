"""Find the first entry of a ledger that is wrong, and the runs that never ended."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleet.ledger.entries import ZERO, Head, Kind, canonical, hash_of
from fleet.model import HostName
from fleet.text import parsed_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Lines = Sequence[tuple[int | None, str]]


class How(enum.StrEnum):
    """In what way an entry is wrong."""

    CHANGED = "changed"
    """Its text does not have its hash."""
    REWRITTEN = "rewritten"
    """It has its hash, and what was written after it, or is kept elsewhere, names another one."""
    MISSING = "missing"
    """There are later ones, and it is not there."""
    MISPLACED = "misplaced"
    """Another one stands in its place, and it stands somewhere else."""
    CUT = "cut"
    """It and all after it are gone."""
    ADDED = "added"
    """It was not added by fleet."""


@dataclass(frozen=True)
class Wrong:
    """The first entry that is wrong."""

    entry: int
    """Its number. Entries count from 1."""
    how: How
    message: str


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A run that has begun and that the ledger does not see to its end."""

    run: str
    entry: int
    """The number of the entry that says so."""
    hosts: tuple[HostName, ...]
    """Its hosts of which nothing says how they ended. There may be none, if only the end of the run is missing."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The entries of a ledger, up to the first wrong one."""

    ledger: str = ""
    """Its id. Empty if not even the first entry is right."""
    hashes: Sequence[str] = ()
    """The hash of each entry, from the first."""
    wrong: Wrong | None = None
    begun: Mapping[str, Begun] = field(default_factory=dict)
    """The runs without an end, in the order in which they began."""
    runs: frozenset[str] = frozenset()
    """All runs that it tells of."""

    @property
    def head(self) -> Head | None:
        """The head after the last entry that is right."""
        return Head(self.ledger, len(self.hashes), self.hashes[-1]) if self.ledger and self.hashes else None


def read_chain(lines: Lines) -> Chain:
    """Read entries up to the first wrong one. Each comes with the number by which it is kept, or None."""
    hashes: list[str] = []
    runs = _Runs()
    ledger, wrong = "", None
    for place, line in lines:
        number, before = len(hashes) + 1, hashes[-1] if hashes else ZERO
        body = parse(line)
        wrong = _wrong(number, before, place, body, lines)
        if wrong is not None or body is None:
            break
        if number == 1:
            ledger = body["ledger"]
        runs.note(body)
        hashes.append(body["hash"])
    return Chain(ledger=ledger, hashes=hashes, wrong=wrong, begun=runs.begun(), runs=frozenset(runs.seen))


def parse(line: str) -> dict[str, Any] | None:
    """Return the entry in a line, if its text has its hash; None for any other text."""
    try:
        body = parsed_json(line)
        if not isinstance(body, dict) or canonical(body) != line:
            return None
    except (ValueError, RecursionError):
        return None
    return body if body.get("hash") == hash_of(body) and type(body.get("entry")) is int else None


def _wrong(number: int, before: str, place: int | None, body: Mapping[str, Any] | None, lines: Lines) -> Wrong | None:
    """Return what is wrong where the entry with this number should be; None if nothing is."""
    if place is not None and place < number:
        return Wrong(number, How.ADDED, f"something is kept as entry {place}, which fleet has not added")
    if place is not None and place > number:
        return _not_there(number, place, lines)
    if body is None:
        return Wrong(number, How.CHANGED, "its text does not have its hash")
    if body["entry"] != number:
        return _not_there(number, body["entry"], lines)
    if body.get("prev") == before and (number > 1 or _opens(body)):
        return None
    if number == 1:
        return Wrong(1, How.CHANGED, "it does not open a ledger")
    message = f"it has its hash, but entry {number} was written after one with another hash"
    return Wrong(number - 1, How.REWRITTEN, message)


def _opens(body: Mapping[str, Any]) -> bool:
    ledger = body.get("ledger")
    return body.get("kind") == Kind.OPENED and isinstance(ledger, str) and _is_id(ledger)


def _is_id(text: str) -> bool:
    return len(text) == 32 and set(text) <= set("0123456789abcdef")


def _not_there(number: int, found: int, lines: Lines) -> Wrong:
    """Return that an entry is not where it should be, where another one was found."""
    if any((body := parse(line)) is not None and body["entry"] == number for _, line in lines[number - 1 :]):
        return Wrong(number, How.MISPLACED, f"entry {found} stands in its place")
    return Wrong(number, How.MISSING, f"entry {found} stands in its place")


def against_note(chain: Chain, noted: Head | None) -> Chain:
    """Return the chain, judged by the head that was noted when its last entry was added."""
    size = len(chain.hashes)
    wrong: Wrong | None = None
    if chain.wrong is not None or (noted is None and size == 0):
        return chain
    if noted is None:
        wrong = Wrong(size + 1, How.CUT, "whether there were more is not known: the note of its head is gone")
    elif noted.size > size:
        wrong = Wrong(size + 1, How.CUT, f"the ledger had {noted.size} entries, and ends before it")
    elif noted.size < size:
        wrong = Wrong(noted.size + 1, How.ADDED, f"the ledger had {noted.size} entries, and fleet added no other")
    elif noted != chain.head:
        wrong = Wrong(size, How.REWRITTEN, "it has its hash, and had another one when it was added")
    return dataclasses.replace(chain, wrong=wrong)


def begun_in(lines: Iterable[str]) -> Mapping[str, Begun]:
    """Return the runs that these entries do not see to their end. Entries may be missing between them."""
    runs = _Runs()
    for line in lines:
        if (body := parse(line)) is not None:
            runs.note(body)
    return runs.begun()


class _Runs:
    """Which runs have begun, and what is missing to their end."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._entries: dict[str, int] = {}
        """The entry with which each run began that has no end."""
        self._hosts: dict[str, dict[HostName, None]] = {}
        """The hosts of these runs that have no end."""
        self._over: set[str] = set()
        """Those of the runs that said that they are over, though some of their hosts have no end."""

    def note(self, body: Mapping[str, Any]) -> None:
        """Take an entry."""
        run, kind, host = (body.get(key) for key in ("run", "kind", "host"))
        if not isinstance(run, str):
            return
        self.seen.add(run)
        if kind == Kind.BEGIN:
            hosts = body.get("hosts")
            self._entries.setdefault(run, body["entry"])
            self._hosts.setdefault(run, {}).update(
                dict.fromkeys(HostName(str(name)) for name in (hosts if isinstance(hosts, list) else ()))
            )
            self._over.discard(run)
        elif run in self._entries and kind in (Kind.COMMIT, Kind.REVERT, Kind.RESULT):
            self._hosts[run].pop(HostName(str(host)), None)
        elif run in self._entries and kind == Kind.END:
            self._over.add(run)
        if run in self._over and not self._hosts[run]:
            self._over.discard(run)
            del self._entries[run], self._hosts[run]

    def begun(self) -> dict[str, Begun]:
        """Return the runs that the entries do not see to their end."""
        return {run: Begun(run=run, entry=entry, hosts=tuple(self._hosts[run])) for run, entry in self._entries.items()}
