"""Progress for logs and pipes: one line per fact that matters, nothing moves."""

from __future__ import annotations

from typing import TextIO

from fleet.events import Event, OutputLine, PhaseStarted
from fleet.model import Phase
from fleet.output.facts import SHARED_PHASES, fact_lines
from fleet.output.format import one_line
from fleet.output.stream import Sturdy


class Plain:
    """Writes `host: text` lines, without colours and cursor movement."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = Sturdy(stream)
        self._shared: Phase | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case PhaseStarted(phase=phase) if phase in SHARED_PHASES:
                lines = [] if phase is self._shared else [f"fleet: {phase.value}"]
                self._shared = phase
            case PhaseStarted(phase=Phase.WAITING | Phase.DONE):
                lines = []
            case PhaseStarted(host=host, phase=phase):
                lines = [f"{host}: {phase.value}"]
            case OutputLine(host=speaker, phase=phase, text=text):
                lines = [f"{speaker or phase.value}: {text}"]
            case _:
                lines = fact_lines(event)
        self._stream.write("".join(one_line(line) + "\n" for line in lines))
