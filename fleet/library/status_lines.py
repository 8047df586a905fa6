"""Show what hosts are and run, the worst first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import FleetError
from fleet.host.answers import State
from fleet.library.seen import LastSeen
from fleet.output.format import counted, human_age, human_bytes, one_line, short_name
from fleet.output.table import table
from fleet.steps import hardware
from fleet.steps.preflight import BOOT_FLOOR, NIX_FLOOR
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.host.facts import HostFacts
    from fleet.library.watching import Watched
    from fleet.model import HostName

HEADERS = ("host", "running", "age", "generation", "health", "pending", "reboot", "disk", "remarks")
OFTEN_EMPTY = ("pending", "reboot", "remarks")
"""Columns that are not shown on a terminal where there is nothing in them."""
MOST_PACKAGES = 4
"""Packages of an agent that are listed, at most."""
STUCK, FAILED, AWAY, WENT_BACK, OPEN, FULL, NOTED, WELL = range(8)
"""What is wrong with a host, the worst first."""
STYLES = {STUCK: "red", FAILED: "red", AWAY: "dim"}


@dataclass(frozen=True)
class Row:
    """The row of a host."""

    rank: int
    cells: tuple[str, ...]
    """What is below each of `HEADERS`, without the host."""


def status_lines(
    hosts: Mapping[HostName, Watched], *, now: float, is_terminal: bool = False, width: int | None = None
) -> list[str]:
    """Return a table of the hosts, the worst first. `now` is in seconds since 1970."""
    rows = sorted(((name, row_of(name, one, now)) for name, one in hosts.items()), key=lambda pair: pair[1].rank)
    cells = [(name, *row.cells) for name, row in rows]
    headers: Sequence[str] = HEADERS
    if is_terminal:
        used = [
            number
            for number, header in enumerate(HEADERS)
            if header not in OFTEN_EMPTY or any(row[number] != "-" for row in cells)
        ]
        headers = [HEADERS[number] for number in used]
        cells = [tuple(row[number] for number in used) for row in cells]
    styles = [STYLES.get(row.rank, "") for _, row in rows]
    lines = table(headers, cells, is_terminal=is_terminal, width=width, styles=styles).splitlines()
    agents = _agents(hosts)
    return [*lines, *([""] if agents else []), *agents]


def _agents(hosts: Mapping[HostName, Watched]) -> list[str]:
    """Return a line for each agent with what it has, and its hosts: those with the same versions together."""
    where: dict[tuple[str, tuple[str, ...]], list[HostName]] = {}
    for name, one in hosts.items():
        if one.answer is not None and not isinstance(one.answer, FleetError):
            for agent in one.answer.agents.items():
                where.setdefault(agent, []).append(name)
    return [
        one_line(f"agent {agent}: {listed(packages, most=MOST_PACKAGES) or 'no packages'} (on {listed(names)})")
        for (agent, packages), names in sorted(where.items())
    ]


def row_of(name: HostName, one: Watched, now: float) -> Row:
    """Return what is told of a host. `now` is in seconds since 1970."""
    if one.answer is None or isinstance(one.answer, FleetError):
        return _silent_row(name, one, now)
    facts = one.answer
    seen = LastSeen.of(facts, now)
    remarks = [*_behind(name, one, now), *_remarks(facts, name)]
    cells = _cells(seen, name, now, health=_health(facts.failed_units), pending=_pending(facts, name))
    return Row(_rank(facts, remarks), (*cells, "; ".join(remarks) or "-"))


def remarks_on(name: HostName, one: Watched, now: float) -> list[str]:
    """Return what there is to say of a host, beside what has a column of its own."""
    if one.answer is None:
        return _behind(name, one, now)
    why = [one.answer.message] if isinstance(one.answer, FleetError) else _remarks(one.answer, name)
    return [*_behind(name, one, now), *why]


def _silent_row(name: HostName, one: Watched, now: float) -> Row:
    """Return the row of a host that does not answer, with what it was when it did."""
    why = one.answer.message if isinstance(one.answer, FleetError) else ""
    health = one.answer.kind.value.replace("_", " ") if isinstance(one.answer, FleetError) else "not asked yet"
    rank = AWAY if isinstance(one.answer, FleetError) else WELL
    behind = _behind(name, one, now)
    if one.last is None:
        return Row(rank, ("-", "-", "-", health, "-", "-", "-", "; ".join(filter(None, (*behind, why))) or "-"))
    last = f"as it was {human_age(now - one.last.at)} ago"
    if one.last.failed_units:
        last += f", with {_health(one.last.failed_units)}"
    cells = _cells(one.last, name, now, health=health, pending="-")
    return Row(rank, (*cells, "; ".join(filter(None, (*behind, last, why)))))


def _behind(name: HostName, one: Watched, now: float) -> list[str]:
    """Return what the host has missed while it was away, and since when."""
    if (waits := one.waits) is None:
        return []
    missed = counted(waits.missed, "deployment")
    return [f"behind by {missed} for {human_age(now - waits.first)}: gets {short_name(waits.closure, name)}"]


def _cells(seen: LastSeen, name: HostName, now: float, *, health: str, pending: str) -> tuple[str, ...]:
    low_boot = seen.boot_free is not None and seen.boot_free < BOOT_FLOOR
    boot = f", /boot {human_bytes(seen.boot_free)}" if low_boot and seen.boot_free is not None else ""
    return (
        short_name(seen.running, name),
        human_age(now - seen.since) if seen.since else "-",
        seen.generation or "-",
        health,
        pending,
        ", ".join(seen.reboot_pending) or "-",
        f"{human_bytes(seen.nix_free)}{boot}" if seen.nix_free else "-",
    )


def _health(failed_units: Sequence[str]) -> str:
    return f"{len(failed_units)} failed: {listed(failed_units, most=3)}" if failed_units else "ok"


def _pending(facts: HostFacts, name: HostName) -> str:
    """Return what is open on the host, or waits there."""
    if (held := facts.transaction) is not None:
        left = held.closes_in
        when = f"closes in {left} s" if left >= 0 else f"its deadline passed {-left} s ago"
        return f"{held.state} by {held.who}, {when}"
    if facts.staged is not None and facts.staged != facts.running:
        return f"pushed: {short_name(facts.staged, name)}"
    return "-"


def _rank(facts: HostFacts, remarks: Sequence[str]) -> int:
    if facts.last is not None and facts.last.state is State.STUCK:
        return STUCK
    if facts.failed_units:
        return FAILED
    if facts.last is not None and facts.last.state in (State.REVERTED, State.SUPERSEDED):
        return WENT_BACK
    if facts.transaction is not None:
        return OPEN
    if facts.nix_free < NIX_FLOOR or (facts.boot_free is not None and facts.boot_free < BOOT_FLOOR):
        return FULL
    return NOTED if facts.reboot_pending or remarks else WELL


def _remarks(facts: HostFacts, name: HostName) -> list[str]:
    remarks = []
    if facts.transaction is not None:
        remarks.append(f"open: {facts.transaction}")
    if facts.boot_default is None:
        remarks.append("what boots next is unverified")
    elif facts.boot_default != facts.running:
        remarks.append(f"boots {short_name(facts.boot_default, name)} next")
    if facts.profile != facts.running:
        remarks.append("the profile names another system")
    if facts.last is not None and facts.last.state in (State.REVERTED, State.STUCK, State.SUPERSEDED):
        remarks.append(f"last run {facts.last.state}: {facts.last.reason or facts.last.run}")
    if facts.missing_secrets:
        names = listed(facts.missing_secrets, most=3)
        remarks.append(f"secrets are gone with a reboot ({names}): fleet secrets push {name}")
    if facts.quarantined:
        remarks.append(f"{len(facts.quarantined)} quarantined")
    remarks += [message for _, message, _ in hardware.notes(facts)]
    return remarks
