"""Watch a host that keeps its new system, for as long as its wave soaks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from fleet.errors import HostError
from fleet.steps.monitor import CheckMonitor, now
from fleet.steps.preflight import preflight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.events import Emit
    from fleet.inventory import Check
    from fleet.machine import Link, Machine
    from fleet.model import Closure

LOOK_INTERVAL = 10.0
"""Seconds between two looks at the units. The checks have intervals of their own."""
AGAIN = 2.0
"""Seconds between two looks when the time is over and something still fails."""
RECONNECT_INTERVAL = 2.0
"""Seconds before a lost connection is opened again."""


@dataclass
class Soaker:
    """Watches one host. Nothing is open there: what it keeps, it keeps."""

    link: Link
    here: Machine
    emit: Emit
    closure: Closure
    checks: Sequence[Check]
    """Those that decide."""
    failed_before: Sequence[str] | None
    """The units that were failing before the switch. None if that is not known: then those of the first look."""
    _failed: frozenset[str] = field(default_factory=frozenset, init=False)
    """The units that were failing at the last look, and not before the switch."""
    _heard: float = field(default=0.0, init=False)
    """The loop's time of the last look."""

    async def soak(self, seconds: float) -> str:
        """Watch the host for so long. Return what is wrong with it as soon as that is certain; nothing if it is well.

        A unit has to be failing at two looks, and a check for its `within`. A host that cannot be asked for its
        `confirm_timeout` is not well. What fails in the end is watched on, until it passes or that is certain.
        """
        host = self.link.host
        monitor = CheckMonitor(host=host, checks=self.checks, here=self.here, emit=self.emit, stage="soak")
        started = self._heard = now()
        while True:
            try:
                async with self.link.fresh() as machine, monitor.asking(machine):
                    return await self._watch(machine, monitor, started, started + seconds)
            except HostError as error:
                if now() - self._heard > host.confirm_timeout:
                    return f"cannot be asked any more: {error.message}"
                await asyncio.sleep(RECONNECT_INTERVAL)

    async def _watch(self, machine: Machine, monitor: CheckMonitor, started: float, end: float) -> str:
        """Watch the host over one connection until the end and all is well, or until something is wrong."""
        look_at = now()
        while True:
            is_over = now() >= end
            if is_over or now() >= look_at:
                if wrong := await self._look(machine):
                    return wrong
                look_at = now() + LOOK_INTERVAL
            for state in monitor.overdue(now() - started):
                if state.is_seen:
                    return str(state)
            if is_over and not self._failed and monitor.all_pass_since() is not None:
                return ""
            await asyncio.sleep(AGAIN if is_over else min(0.5, max(0.0, end - now())))

    async def _look(self, machine: Machine) -> str:
        """Return what is wrong with the system and its units."""
        host = self.link.host
        facts = await preflight(machine, host)
        self._heard = now()
        if not facts.runs(self.closure):
            return f"{facts.running} runs instead of what was kept"
        if self.failed_before is None:
            self.failed_before = facts.failed_units
        before, self._failed = (
            self._failed,
            frozenset(
                unit
                for unit in facts.failed_units
                if unit not in self.failed_before and not any(fnmatchcase(unit, glob) for glob in host.ignore_units)
            ),
        )
        return "; ".join(f"{unit} has failed" for unit in sorted(before & self._failed))
