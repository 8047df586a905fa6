"""Remember what was there on a host at its first commit, or was accepted since, so that it is no drift."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.drift.judge import undeclared
from fleet.drift.look import look
from fleet.inventory.profiles import computer
from fleet.model import HostName
from fleet.state import BaselineRecord
from fleet.state.threads import in_state
from fleet.text import parsed_json, valid_unicode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.drift.finding import Item
    from fleet.machine import Link
    from fleet.state import State

FIRST_LOOK = 20.0
"""Seconds that a first commit waits for a host to tell what is there."""


@dataclass(frozen=True)
class Baseline:
    """What is no drift on a host, though its system does not declare it: the sign of each thing by its id."""

    at: float
    """When it was last accepted: seconds since 1970."""
    signs: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Iterable[Item], at: float) -> Baseline:
        """Return what makes these items no drift."""
        return cls(at, {item.id: item.sign for item in items})

    def has(self, item: Item) -> bool:
        """Whether the item was there, as it is."""
        return self.signs.get(item.id) == item.sign

    def had(self, item: Item) -> bool:
        """Whether the item was there in some way."""
        return item.id in self.signs

    def beyond(self, before: Baseline | None) -> tuple[str, ...]:
        """Return the ids of what is not in the baseline before, or not as it is there, in order."""
        known = before.signs if before is not None else {}
        return tuple(sorted(name for name, sign in self.signs.items() if known.get(name) != sign))

    def record(self, by: str) -> BaselineRecord:
        """Return it as the state keeps it."""
        return BaselineRecord(at=self.at, by=by, body=valid_unicode(json.dumps(self.signs)))

    @classmethod
    def read(cls, record: BaselineRecord) -> Baseline:
        """Return what `record` has made. Raise `ValueError` for anything else, as a newer fleet may have written."""
        found = parsed_json(record.body)
        if not isinstance(found, dict) or not all(isinstance(sign, str) for sign in found.values()):
            raise ValueError("it is not what this version remembers")
        return cls(record.at, found)


async def keep_first(state: State, link: Link, by: str) -> None:
    """Remember what is there on the computer now, whatever of it is deployed, if it can tell all of it.

    What NixOS has beside its declaration is drift from the first day, so of that nothing is remembered. Raises no
    error, since none may change what became of a deployment.
    """
    name = HostName(computer(link.host))
    with contextlib.suppress(Exception):
        async with asyncio.timeout(FIRST_LOOK):
            seen = await look(link)
        if seen.incomplete:
            return
        items = () if seen.is_nixos else undeclared(seen)
        await in_state(state.keep_baseline, name, Baseline.of(items, time.time()).record(by))


async def remembered(state: State, name: HostName) -> Baseline | None:
    """Return what is remembered of the computer; None if nothing is, or what a newer fleet has written.

    Raise `StateError` if it cannot be read.
    """
    record = await in_state(state.baseline, name)
    with contextlib.suppress(ValueError):
        return Baseline.read(record) if record is not None else None
    return None
