"""Turn what the host program answers, lines `key=value`, into values. Pure functions."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.model import Closure
from fleet.plans.text import NONE, TextError, unescaped
from fleet.text import plain_text, shortened, whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

Lines = dict[str, list[str]]
LONGEST, MOST_VALUES = 4096, 10_000
"""Characters of one value, and values of one key, that are read."""
MOST_NAMED = 20
"""Units that are named in one reason."""


class State(enum.StrEnum):
    """The state of a transaction. docs/transaction.md says what the host does in each."""

    SWITCHING = "switching"
    ARMING = "arming"
    REBOOTING = "rebooting"
    SWITCHED = "switched"
    COMMITTING = "committing"
    REVERTING = "reverting"
    COMMITTED = "committed"
    TESTED = "tested"
    REVERTED = "reverted"
    STUCK = "stuck"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"
    """There was no transaction: a plan was taken back before it could begin."""
    UNKNOWN = "unknown"
    """The host knows nothing of the transaction, or names a state that this version of fleet does not know."""

    @classmethod
    def _missing_(cls, _: object) -> State:
        return cls.UNKNOWN

    @property
    def is_open(self) -> bool:
        """Whether the keeper is still at work."""
        return self in (
            State.SWITCHING, State.ARMING, State.REBOOTING, State.SWITCHED, State.COMMITTING, State.REVERTING,
        )  # fmt: skip


def parse(text: str) -> Lines:
    """Return the values of each key, in order. Lines without `=` are left out: a login banner may print some.

    Of a very long value, and of a key with very many, the rest is left out: no host has so much to say.
    """
    lines: Lines = {}
    for line in text.split("\n"):  # and at nothing else: what a switch wrote may hold any other separator
        key, separator, value = line.partition("=")
        if separator and len(values := lines.setdefault(key[:LONGEST], [])) < MOST_VALUES:
            values.append(value[:LONGEST])
    return lines


def one(lines: Lines, key: str) -> str:
    """Return the last value of the key; an empty string if it has none."""
    return lines.get(key, [""])[-1]


def as_written(value: str) -> str:
    """Return the text that somebody wrote in an order, from an answer that has it as the order does.

    There it has escapes, and its end may be cut off. It is empty if nobody wrote anything.
    """
    if value == NONE:
        return ""
    try:
        return plain_text(unescaped(re.sub(r"\\(u[0-9a-f]{0,3})?$", "", value)))
    except TextError:
        return plain_text(value)


@dataclass(frozen=True, kw_only=True)
class View:
    """A transaction as the host showed it just now."""

    state: State
    running: Closure
    status: int | None = None
    """Exit status of switch-to-configuration, once it has ended."""
    blame: str = ""
    """`found` if the new system was found bad, `silent` if it was not proven. Empty if neither was said."""
    reason: str = ""
    unproven: str = ""
    """What was wrong with the old system when the host gave its proof up. Empty if it was proven, or not yet asked."""
    notes: tuple[str, ...] = ()
    """What people should know of the switch though it went well."""
    boot_entry: str = ""
    """The closure that the boot default names; `unverified` if that cannot be read."""
    boot_doubt: str = ""
    """Why it cannot be read. Empty if it can."""
    rebooted: bool = False
    since: int = 0
    """When the transaction began: seconds since 1970, by the host's clock."""
    closes_in: int = 0
    """Seconds until the host goes back by itself, while it is switching or switched."""
    lines: tuple[str, ...] = ()
    """What the switch wrote since the last look."""
    cursor: str = ""
    bad: tuple[str, ...] = ()
    """Counted units that will not come back, each with what happened."""
    unsettled: tuple[str, ...] = ()
    """Counted units that may yet come up."""
    missing_secrets: tuple[str, ...] = ()
    """Secrets in memory that a reboot has taken."""
    accepted: bool = False
    """Whether the word that was left will be read."""
    prover: str = ""
    """The number that the host has just given to whoever asked, who is the one that proves from now on."""
    displaced: bool = False
    """Whether somebody else proves by now: what was asked has had no effect."""

    @property
    def is_open(self) -> bool:
        """Whether the keeper is still at work."""
        return self.state.is_open


def view(lines: Lines) -> View:
    """Return the view in an answer to `show`, `watch`, `look` or `word`."""
    status = one(lines, "status")
    return View(
        state=State(one(lines, "state")),
        running=Closure(one(lines, "running")),
        status=int(status) if re.fullmatch(r"[0-9]{1,3}", status) else None,
        blame=one(lines, "blame"),
        reason=shortened(one(lines, "reason"), 2000),
        unproven=shortened(one(lines, "unproven"), 2000),
        notes=tuple(shortened(plain_text(note), 2000) for note in lines.get("note", ())[:100]),
        boot_entry=one(lines, "boot_entry"),
        boot_doubt=one(lines, "boot_doubt"),
        rebooted="rebooted" in lines,
        since=whole_number(one(lines, "since")),
        closes_in=whole_number(one(lines, "closes_in")),
        lines=tuple(lines.get("line", ())),
        cursor=one(lines, "cursor"),
        bad=_some(lines.get("bad", [])),
        unsettled=_some(lines.get("unsettled", [])),
        missing_secrets=names(lines.get("secret_missing", ())),
        accepted=one(lines, "accepted") == "yes",
        prover=one(lines, "prover"),
        displaced="displaced" in lines,
    )


def names(said: Sequence[str]) -> tuple[str, ...]:
    """Return names that a host says, without what is none."""
    return tuple(name for name in said[:MOST_NAMED] if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name))


def _some(units: list[str]) -> tuple[str, ...]:
    """Return the units, and of very many the first ones and how many more there are."""
    named = [shortened(unit, 300) for unit in units[:MOST_NAMED]]
    return (*named, f"and {len(units) - MOST_NAMED} more units") if len(units) > MOST_NAMED else tuple(named)


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One generation of the system profile."""

    number: int
    created: int
    """Seconds since 1970."""
    closure: Closure
    current: bool = False
    running: bool = False
    previous: bool = False
    """Whether `fleet rollback` would go to it."""


def generations(lines: Lines) -> tuple[Generation, ...]:
    """Return the generations in an answer to `generations`, oldest first."""
    found = []
    for line in lines.get("generation", ()):
        number, _, rest = line.partition(" ")
        created, _, closure = rest.partition(" ")
        found.append(
            Generation(
                number=whole_number(number),
                created=whole_number(created),
                closure=Closure(closure),
                current=one(lines, "current") == f"system-{number}-link",
                running=one(lines, "running") == closure,
                previous=one(lines, "previous") == closure,
            )
        )
    return tuple(sorted(found, key=lambda generation: generation.number))
