"""Entries of the ledger, and how each is written."""

from __future__ import annotations

import enum
import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from fleet.text import shortened, valid_unicode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Value = str | int | bool | Sequence[str] | None

ZERO = "0" * 64
"""What the first entry has for the hash of the entry before it."""
LONGEST = 500
"""The most characters of a text in an entry. Others wrote some of them."""
LARGEST = (1 << 16) - 1
"""The most bytes of an entry: as many as logs in tiles can hold (C2SP tlog-tiles, entries with a length of 16 bits)."""
OURS = ("at", "by", "entry", "from", "hash", "kind", "late", "prev")
"""The keys that every entry may have, and that say the same in each."""


class Kind(enum.StrEnum):
    """What an entry tells of. Each has the values that its line here names, and may have others."""

    OPENED = "opened"
    """The ledger begins: `ledger`, its id, and `fleet`."""
    PLAN = "plan"
    """A plan was made to be kept, or is about to be applied: `plan`, its digest, and what it is for."""
    APPROVAL = "approval"
    """Somebody has approved a plan: `plan`, `key`. Or what rules ask for is there: `run`, `why`."""
    WITHDRAWAL = "withdrawal"
    """The part of a plan for a host was made worthless: `plan`, `host`."""
    BEGIN = "begin"
    """A run is about to touch these hosts, and has touched none: `run`, `plan`, `hosts`."""
    COMMIT = "commit"
    """A host has committed a new system: `run`, `host`, `new`, `old`."""
    REVERT = "revert"
    """A host has gone back: `run`, `host`, `new`, `old`, `why`."""
    RESULT = "result"
    """A host has ended in another way: `run`, `host`, `outcome`."""
    END = "end"
    """The run is over: `run`, `exit_code`."""
    LOCK_BROKEN = "lock_broken"
    """Somebody has ended what somebody else had under way: `host`, `run`, `why`."""
    SECRET_CHANGED = "secret_changed"
    """A host has got another value of a secret: `host`, `secret`, its name."""
    DRIFT_ACCEPTED = "drift_accepted"
    """What was changed on a host by hand is right from now on: `host`, `count`, `what`."""
    POLICY_CHANGED = "policy_changed"
    """Other rules, or other principals, are in force: `file`, `digest`, `before`."""
    BREAK_GLASS = "break_glass"
    """Somebody goes on against the policy: `verb`, `hosts`, `rule`, `why`."""


class Head(NamedTuple):
    """How far a ledger goes: nobody can change an entry, or take one away, and have the same head again."""

    ledger: str
    """The ledger's id: two machines that share no state have two ledgers."""
    size: int
    """How many entries it has."""
    hash: str
    """The hash of the last of them."""

    def __str__(self) -> str:
        return f"{self.ledger} {self.size} {self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Return the head that `str` wrote as this text. Raise `ValueError` for other text."""
        if re.fullmatch(r"[0-9a-f]{32} [1-9][0-9]{0,14} [0-9a-f]{64}", text) is None:
            raise ValueError(f"found {text[:80]!r}, expected the id of a ledger, its size and its head")
        ledger, size, hash_ = text.split(" ")
        return cls(ledger, int(size), hash_)


class Opening(NamedTuple):
    """What the first entry of a new ledger says."""

    ledger: str
    fleet: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Something to be entered. It gets its place when it is."""

    kind: Kind
    by: str
    """The person or program that acted."""
    origin: str
    """The name of the machine on which that was."""
    at: int = field(default_factory=lambda: int(time.time()))
    """When, in seconds since 1970, by the clock of that machine."""
    values: Mapping[str, Value] = field(default_factory=dict)
    """What the kind asks for. Texts are cut at `LONGEST` characters, and become one line of plain text."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for values that have the name of what every entry has, or that are too large together."""
        if clash := sorted({*OURS} & self.values.keys()):
            raise ValueError(f"every entry has its own {', '.join(clash)}")
        if len(written(self, 10**15, ZERO)[0].encode("ascii")) > LARGEST:
            raise ValueError(f"an entry has at most {LARGEST} bytes")

    @property
    def plain(self) -> dict[str, object]:
        """The entry as data, without its place."""
        told = {key: _plain(value) for key, value in self.values.items() if value is not None}
        return {"at": self.at, "by": _plain(self.by), "from": _plain(self.origin), "kind": self.kind.value, **told}


def _plain(value: Value) -> object:
    if isinstance(value, str):
        return shortened(" ".join(valid_unicode(value).split()), LONGEST)
    return value if value is None or isinstance(value, int) else [_plain(item) for item in value]


def written(entry: Entry, number: int, before: str, *, late: str = "") -> tuple[str, str]:
    """Return the line of an entry that has this number and follows the entry with the hash `before`, and its hash.

    The hash is the SHA-256 of the line without its own `hash`. `late` names what the entry was kept in until it could
    be entered; it is empty for one that was entered at once.
    """
    body = {**entry.plain, "entry": number, "prev": before, **({"late": late} if late else {})}
    hash_ = hash_of(body)
    return canonical({**body, "hash": hash_}), hash_


def hash_of(body: Mapping[str, object]) -> str:
    """Return the hash of an entry: the SHA-256 of its line without `hash`, as `sha256sum` prints it."""
    text = canonical({key: value for key, value in body.items() if key != "hash"})
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def canonical(value: object) -> str:
    """Return data as JSON on one line of printable ASCII, with sorted keys: what `jq -cSa` makes of it too."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
