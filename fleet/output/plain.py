"""Show progress in logs and pipes: one line for each fact that matters, and nothing that moves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from fleet.events import Event, OutputLine, PhaseStarted, PushProgressed
from fleet.model import Phase
from fleet.output.facts import SHARED_PHASES, fact_lines
from fleet.output.format import one_line
from fleet.output.progress import Pushes
from fleet.output.stream import SafeStream

if TYPE_CHECKING:
    from collections.abc import Callable


INTERVAL = 10.0
"""Seconds between two lines about pushes."""
FEW = 4
"""The most pushes that are shown one by one. More are shown only together."""


class Plain:
    """Writes `host: text` lines without colours or cursor movement. `clock` returns seconds."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = SafeStream(stream)
        self._shared: Phase | None = None
        self._clock = clock
        self._pushes = Pushes(clock)
        self._last_progress = clock()

    def __call__(self, event: Event) -> None:
        self._pushes.see(event)
        match event:
            case PushProgressed():
                lines = self._progress()
            case PhaseStarted(phase=phase) if phase in SHARED_PHASES:
                lines = [] if phase is self._shared else [f"fleet: {phase.value}"]
                self._shared = phase
            case PhaseStarted(phase=Phase.WAITING):
                lines = []
            case PhaseStarted(host=host, phase=phase):
                lines = [f"{host}: {phase.value}"]
            case OutputLine(host=speaker, phase=phase, text=text):
                lines = [f"{speaker or phase.value}: {text}"]
            case _:
                lines = fact_lines(event)
        self._stream.write("".join(one_line(line) + "\n" for line in lines))

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
