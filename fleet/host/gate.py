"""What a host tells of its gate. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.host.answers import one
from fleet.text import shortened, whole_number

if TYPE_CHECKING:
    from fleet.host.answers import Lines

MOST = 200
"""Signers, keys and ways round that are read, each."""
_SIGNER = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*) (plans|approves) (SHA256:[A-Za-z0-9+/]{43})")


@dataclass(frozen=True, kw_only=True)
class Signer:
    """One key whose signatures count on the host."""

    name: str
    approves: bool
    """Whether it may approve plans too. If not, it may only make them."""
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """How the gate of a host is, by its own word."""

    digest: str
    program: str
    fleet: str
    """The id of the fleet whose plans it takes."""
    host: str
    """The name under which it takes them."""
    user: str
    required: int
    """How many different people have to approve."""
    touch: bool
    signers: tuple[Signer, ...] = ()
    keys: tuple[str, ...] = ()
    """The fingerprints of the keys that log in."""
    checks: tuple[str, ...] = ()
    """The names of the checks that it runs, also before it keeps a system."""
    permits: tuple[str, ...] = ()
    """Where it forwards connections to."""
    ways_round: tuple[str, ...] = ()
    """Who becomes root there without it."""


def gate_report(lines: Lines) -> GateReport | None:
    """Return the report in an answer to `gate`; None if it is none."""
    if "digest" not in lines or "program" not in lines:
        return None

    def several(key: str) -> tuple[str, ...]:
        return tuple(shortened(value, 500) for value in lines.get(key, ())[:MOST])

    signers = (_SIGNER.fullmatch(line) for line in lines.get("signer", ())[:MOST])
    return GateReport(
        digest=one(lines, "digest"),
        program=shortened(one(lines, "program"), 300),
        fleet=one(lines, "fleet"),
        host=one(lines, "host"),
        user=one(lines, "user"),
        required=whole_number(one(lines, "required")),
        touch=one(lines, "touch") == "yes",
        signers=tuple(
            Signer(name=found[1], approves=found[2] == "approves", fingerprint=found[3]) for found in signers if found
        ),
        keys=several("key"),
        checks=several("check"),
        permits=tuple(place for place in several("permit") if place != "none"),
        ways_round=several("round"),
    )
