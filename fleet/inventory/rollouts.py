"""The table [rollout], and the order in which hosts come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BeforeValidator, StrictBool

from fleet.inventory import amounts, values
from fleet.inventory.tables import Count, Rate, Seconds, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.model import HostName


class Wave(Table):
    """Hosts that go together. Those of the next wave wait for them."""

    hosts: Annotated[str, BeforeValidator(values.line)]
    """A selector."""
    soak: Seconds = 0.0
    """For how long its hosts are watched after the last of them has ended, before the next wave begins."""


class RolloutTable(Table):
    """How a run goes through many hosts."""

    at_once: Count = 16
    push_at_once: Count | None = None
    """The most hosts that are pushed to at the same time; None if pushes are limited by `at_once`."""
    bandwidth: Rate | None = None
    """The most bytes per second that are sent to all hosts together."""
    max_failures: Annotated[int, BeforeValidator(amounts.whole), AfterValidator(amounts.at_least(0))] = 0
    undo_on_failure: StrictBool = False
    """Whether hosts that a run has changed go back to where they were when the run fails."""
    waves: tuple[Wave, ...] = ()


def order_problems(
    after: Mapping[HostName, Sequence[HostName]], waves: Sequence[frozenset[HostName]]
) -> list[tuple[HostName, str]]:
    """Return what is wrong with an order between hosts: pairs of a host and the problem with its `after`.

    `after` has every host, with those that it comes after; `waves` has the hosts that each wave names.
    """
    wave_of: dict[HostName, int] = {}
    for number, names in enumerate(waves, 1):
        for name in names:
            wave_of.setdefault(name, number)
    last = len(waves) + 1
    problems = []
    for name, others in after.items():
        if circle := _circle(name, after):
            problems.append((name, f"leads in a circle: {' -> '.join(circle)}"))
        for other in others:
            mine, theirs = wave_of.get(name, last), wave_of.get(other, last)
            if other in after and theirs > mine:
                problems.append((name, f"{other} is in wave {theirs}, and {name} goes before it in wave {mine}"))
    return problems


def _circle(start: HostName, after: Mapping[HostName, Sequence[HostName]]) -> list[HostName]:
    """Return a way from this host back to it; empty if there is none."""
    ways = [[start]]
    seen: set[HostName] = set()
    while ways:
        way = ways.pop()
        for name in after.get(way[-1], ()):
            if name == start:
                return [*way, name]
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []


def in_order(hosts: Sequence[HostName], after: Mapping[HostName, Sequence[HostName]]) -> list[list[HostName]]:
    """Return these hosts in groups, each host in a later group than those of them that it comes after.

    There is no circle. Hosts that are not among them are not waited for.
    """
    places: dict[HostName, int] = {}
    among = set(hosts)
    for start in hosts:
        ahead = [start]
        while ahead:
            name = ahead[-1]
            before = [other for other in after.get(name, ()) if other in among]
            missing = [other for other in before if other not in places]
            if missing:
                ahead += missing
                continue
            places[name] = max((places[other] + 1 for other in before), default=0)
            ahead.pop()
    groups: list[list[HostName]] = [[] for _ in range(max(places.values(), default=-1) + 1)]
    for name in hosts:
        groups[places[name]].append(name)
    return groups
