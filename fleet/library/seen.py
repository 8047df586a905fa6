"""Remember what hosts were when they last answered, for when they do not."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.deploy.absent import Absent
from fleet.errors import HostError, StateError
from fleet.host.facts import host_facts
from fleet.inventory.gated import is_planned_for_when_away
from fleet.model import Closure, Outcome
from fleet.state import SeenRecord
from fleet.state.threads import in_state
from fleet.steps.preflight import preflight
from fleet.text import parsed_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleet.deploy.absent import Absentees
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host, Inventory
    from fleet.machine import Link
    from fleet.model import HostName, HostResult
    from fleet.state import State

PATIENCE = 10.0
"""Seconds that a host has to tell what it is at the end of a run."""
MOST_UNITS = 20
"""Failed units of a host that are remembered."""


@dataclass(frozen=True, kw_only=True)
class LastSeen:
    """What a host was when it last answered, as far as that is worth to be remembered."""

    at: float
    """When it answered: seconds since 1970, by this machine's clock."""
    running: Closure
    generation: str = ""
    since: int = 0
    """See `HostFacts.since`."""
    failed_units: tuple[str, ...] = ()
    reboot_pending: tuple[str, ...] = ()
    nix_free: int = 0
    boot_free: int | None = None
    host_key: str = ""
    answer: Mapping[str, list[str]] = field(default_factory=dict, repr=False)
    """See `HostFacts.answer`. Empty as well if it has begun something since, or had something open: a plan that was
    made for what it was then would be refused."""

    @classmethod
    def of(cls, facts: HostFacts, at: float, host_key: str = "") -> LastSeen:
        """Return what is worth to be remembered of the facts, which a host with that key has told."""
        is_calm = facts.transaction is None
        return cls(
            at=at,
            running=facts.running,
            generation=facts.generation,
            since=facts.since,
            failed_units=facts.failed_units[:MOST_UNITS],
            reboot_pending=facts.reboot_pending,
            nix_free=facts.nix_free,
            boot_free=facts.boot_free,
            host_key=host_key,
            answer=facts.answer if is_calm else {},
        )

    @property
    def shown(self) -> dict[str, object]:
        """What people and scripts are told of it: all but what only plans need."""
        return {key: value for key, value in vars(self).items() if key not in ("host_key", "answer")}

    @property
    def absent(self) -> Absent | None:
        """What a plan needs to know of the host while it is away; None if it is not known."""
        if not self.answer or not self.host_key:
            return None
        return Absent(at=self.at, host_key=self.host_key, facts=host_facts(dict(self.answer)))

    def record(self) -> SeenRecord:
        """Return it as the state keeps it."""
        return SeenRecord(self.at, json.dumps({key: value for key, value in vars(self).items() if key != "at"}))

    @classmethod
    def read(cls, record: SeenRecord) -> LastSeen:
        """Return what `record` has made. Raise `ValueError` for anything else, as a newer fleet may have written."""
        found = parsed_json(record.body)
        try:
            return cls(
                at=record.at,
                running=Closure(str(found["running"])),
                generation=str(found["generation"]),
                since=int(found["since"]),
                failed_units=tuple(map(str, found["failed_units"])),
                reboot_pending=tuple(map(str, found["reboot_pending"])),
                nix_free=int(found["nix_free"]),
                boot_free=None if found["boot_free"] is None else int(found["boot_free"]),
                host_key=str(found.get("host_key", "")),
                answer={str(key): [*map(str, values)] for key, values in found.get("answer", {}).items()},
            )
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"it is not what this version remembers: {error}") from error


async def remember(state: State, inventory: Inventory, seen: Mapping[HostName, LastSeen]) -> None:
    """Remember what these hosts were, if this machine can: nothing depends on it."""
    if seen:
        records = {name: one.record() for name, one in seen.items()}
        with contextlib.suppress(StateError):
            await in_state(state.remember_seen, records, known=list(inventory.hosts))


async def remember_ends(
    state: State,
    inventory: Inventory,
    results: Iterable[HostResult],
    now: float,
    *,
    links: Mapping[HostName, Link] | None = None,
) -> None:
    """Remember which system each host runs that a run has brought to an end just now, in seconds since 1970.

    Of how it is otherwise, what was seen last is all that is known. Hosts that are planned for while they are away are
    asked again by these `links`: what they have now is what the next plan needs to know.
    """
    runs = {ended.host: running for ended in results if (running := _running(ended)) is not None}
    if not runs:
        return
    before = await remembered(state)
    seen = {}
    links = {name: link for name, link in (links or {}).items() if is_planned_for_when_away(inventory.hosts[name])}
    for name, running in runs.items():
        known = before.get(name, LastSeen(at=now, running=Closure("")))
        is_new = known.running != running
        seen[name] = dataclasses.replace(
            known,
            at=now,
            running=running,
            since=int(now) if is_new else known.since,
            generation="" if is_new else known.generation,
            answer={},
        )

    async def look_again(name: HostName) -> None:
        with contextlib.suppress(HostError, TimeoutError):  # it is gone already
            async with asyncio.timeout(PATIENCE):
                facts = await preflight(links[name], inventory.hosts[name])
            seen[name] = LastSeen.of(facts, now, links[name].host_key)

    await asyncio.gather(*map(look_again, runs.keys() & links.keys()))
    await remember(state, inventory, seen)


async def absentees(state: State, hosts: Sequence[Host]) -> Absentees:
    """Return those of the hosts that are planned for while they are away, as far as is known what they were last."""
    those = [host.name for host in hosts if is_planned_for_when_away(host)]
    if not those:
        return {}
    seen: dict[HostName, LastSeen] = {}
    with contextlib.suppress(StateError):
        seen = await remembered(state)
    return {name: seen[name].absent if name in seen else None for name in those}


async def remember_planned(
    state: State, inventory: Inventory, facts: Mapping[HostName, HostFacts], links: Mapping[HostName, Link]
) -> None:
    """Remember what those hosts were when a plan was made just now that are planned for while they are away."""
    now = time.time()
    those = {name: one for name, one in facts.items() if is_planned_for_when_away(inventory.hosts[name])}
    await remember(state, inventory, {n: LastSeen.of(one, now, links[n].host_key) for n, one in those.items()})


def _running(ended: HostResult) -> Closure | None:
    """Return what the host runs for sure after a run that has changed something there; None if that is not so."""
    if ended.outcome is Outcome.KEPT:
        return ended.closure
    return ended.previous if ended.outcome is Outcome.ROLLED_BACK else None


async def remembered(state: State) -> dict[HostName, LastSeen]:
    """Return what is remembered of each host, without what cannot be read."""
    found = {}
    for name, record in (await in_state(state.seen)).items():
        with contextlib.suppress(ValueError):
            found[name] = LastSeen.read(record)
    return found
