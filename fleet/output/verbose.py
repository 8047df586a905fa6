"""Tell all: a line for each fact, the phases of each host, and all that Nix and the switches write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.events import Event, HostPlanned, OutputLine, PhaseStarted, PushFinished, PushProgressed
from fleet.model import HostName, Phase
from fleet.output.facts import SHARED_PHASES, fact_lines, pushed_as_planned
from fleet.output.progress import Pushes

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL = 10.0
"""Seconds between two lines about pushes."""
FEW = 4
"""The most pushes that are shown one by one. More are shown only together."""


class Verbose:
    """Turns events into `host: text` lines. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._shared: Phase | None = None
        self._clock = clock
        self._pushes = Pushes(clock)
        self._last_progress = clock()
        self._planned: dict[HostName, HostPlanned] = {}

    def lines(self, event: Event) -> list[str]:
        """Return what is written when this has happened."""
        self._pushes.see(event)
        match event:
            case PushProgressed():
                return self._progress()
            case PhaseStarted(phase=phase) if phase in SHARED_PHASES:
                is_new, self._shared = phase is not self._shared, phase
                return [f"fleet: {phase.value}"] if is_new else []
            case PhaseStarted(phase=Phase.WAITING):
                return []
            case PhaseStarted(host=host, phase=phase):
                return [f"{host}: {phase.value}"]
            case HostPlanned(host=host):
                self._planned[host] = event
            case PushFinished(host=host) if host in self._planned:
                return [pushed_as_planned(event, self._planned[host])]
            case OutputLine(host=speaker, phase=phase, text=text):
                return [f"{speaker or phase.value}: {text}"]
        return fact_lines(event)

    def plan_shown(self) -> None:
        """Do nothing: what a person was shown is part of the record as well."""

    def rest(self) -> list[str]:
        """Return nothing: all is written when it happens."""
        return []

    def _progress(self) -> list[str]:
        if self._clock() < self._last_progress + INTERVAL:
            return []
        self._last_progress = self._clock()
        hosts = self._pushes.active()
        lines = (
            [f"{host}: {words}" for host in hosts if (words := self._pushes.words(host))] if len(hosts) <= FEW else []
        )
        together = self._pushes.together()
        return [*lines, *([f"fleet: {together}"] if together else [])]
