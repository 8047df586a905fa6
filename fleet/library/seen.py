"""Remember what hosts were when they last answered, for when they do not."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import StateError
from fleet.model import Closure, Outcome
from fleet.state import SeenRecord
from fleet.text import parsed_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.host.facts import HostFacts
    from fleet.inventory import Inventory
    from fleet.model import HostName, HostResult
    from fleet.state import State

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

    @classmethod
    def of(cls, facts: HostFacts, at: float) -> LastSeen:
        """Return what is worth to be remembered of the facts."""
        return cls(
            at=at,
            running=facts.running,
            generation=facts.generation,
            since=facts.since,
            failed_units=facts.failed_units[:MOST_UNITS],
            reboot_pending=facts.reboot_pending,
            nix_free=facts.nix_free,
            boot_free=facts.boot_free,
        )

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
            )
        except (LookupError, TypeError) as error:
            raise ValueError(f"it is not what this version remembers: {error}") from error


async def remember(state: State, inventory: Inventory, seen: Mapping[HostName, LastSeen]) -> None:
    """Remember what these hosts were, if this machine can: nothing depends on it."""
    if seen:
        records = {name: one.record() for name, one in seen.items()}
        with contextlib.suppress(StateError):
            await asyncio.to_thread(state.remember_seen, records, known=list(inventory.hosts))


async def remember_ends(state: State, inventory: Inventory, results: Iterable[HostResult], now: float) -> None:
    """Remember which system each host runs that a run has brought to an end just now, in seconds since 1970.

    Of how it is otherwise, what was seen last is all that is known.
    """
    runs = {ended.host: running for ended in results if (running := _running(ended)) is not None}
    if not runs:
        return
    before = await remembered(state)
    seen = {}
    for name, running in runs.items():
        known = before.get(name, LastSeen(at=now, running=Closure("")))
        is_new = known.running != running
        seen[name] = dataclasses.replace(
            known,
            at=now,
            running=running,
            since=int(now) if is_new else known.since,
            generation="" if is_new else known.generation,
        )
    await remember(state, inventory, seen)


def _running(ended: HostResult) -> Closure | None:
    """Return what the host runs for sure after a run that has changed something there; None if that is not so."""
    if ended.outcome is Outcome.KEPT:
        return ended.closure
    return ended.previous if ended.outcome is Outcome.ROLLED_BACK else None


async def remembered(state: State) -> dict[HostName, LastSeen]:
    """Return what is remembered of each host, without what cannot be read."""
    found = {}
    for name, record in (await asyncio.to_thread(state.seen)).items():
        with contextlib.suppress(ValueError):
            found[name] = LastSeen.read(record)
    return found
