"""Tell what matters of a run in few lines, however many hosts it has: the summary at its end names them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.events import (
    BuildFinished,
    EvaluationFinished,
    Event,
    FindingReported,
    HostFinished,
    HostPlanned,
    HostQueued,
    HostReplanned,
    OutputLine,
    RolloutAsked,
    RunFinished,
    RunInterrupted,
    RunStarted,
    SoakFinished,
    SoakStarted,
    UndoStarted,
    WaveFinished,
    WaveStarted,
)
from fleet.model import Goal, HostName, Phase, Severity
from fleet.output.facts import fact_lines
from fleet.output.summary import anonymous, plan_totals
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_NOTES = 6
"""The most different notes that are written before the first host begins."""
MOST_ENDS = 3
"""The most bad ends that are written one by one."""


class Brief:
    """Turns events into lines. What is found while a plan is made waits until the first host begins."""

    def __init__(self) -> None:
        self._evaluated = ""
        self._planned: dict[HostName, HostPlanned] = {}
        self._notes: dict[tuple[str, str], list[FindingReported]] = {}
        """Notes that are the same but for the host, by their message and hint."""
        self._bad_ends = 0
        self._is_dry = False
        self._count = 0
        """How many hosts the run is about."""

    def lines(self, event: Event) -> list[str]:
        """Return what is written when this has happened."""
        match event:
            case EvaluationFinished():
                (self._evaluated,) = fact_lines(event)
                return []
            case BuildFinished():
                (built,) = fact_lines(event)
                begun, self._evaluated = self._evaluated, ""
                return [f"{begun}, {built.removeprefix('fleet: ')}" if begun else built]
            case HostPlanned(host=host):
                self._planned[host] = event
                return []
            case FindingReported(host=None, severity=Severity.ERROR):
                return [f"fleet: error: {'; '.join(filter(None, (event.message, event.hint)))}"]
            case FindingReported(severity=Severity.NOTE):
                self._note(event)
                return []
            case WaveStarted() | WaveFinished():
                return [*self._found(), *self._wave(event)]
            case HostFinished(result=result) if result.counts_against_run:
                return self._bad_end(event)
            case RunFinished():
                return self._found()
            case RunStarted(hosts=hosts, goal=goal):
                self._count, self._is_dry = len(hosts), goal is Goal.DRY_ACTIVATE
                return fact_lines(event)
            case OutputLine(host=str(host), phase=Phase.SWITCH, text=text) if self._is_dry:
                return [f"{host}: {text}"]  # what a switch would do is what was asked for
            case (
                HostQueued()
                | HostReplanned()
                | RunInterrupted()
                | RolloutAsked()
                | SoakStarted()
                | SoakFinished()
                | UndoStarted()
            ):
                return fact_lines(event)
        return []

    def rest(self) -> list[str]:
        """Return what was found and not written: there was no run, or nothing to do."""
        return self._found()

    def plan_shown(self) -> None:
        """Forget what waits to be written about the plan: a person was shown it."""
        self._evaluated = ""
        self._planned.clear()
        self._notes.clear()

    def _wave(self, event: WaveStarted | WaveFinished) -> list[str]:
        """Return a line about the wave, unless there is one wave, or every host is one of its own."""
        return fact_lines(event) if 1 < event.waves < self._count else []

    def _note(self, event: FindingReported) -> None:
        """Keep a note, together with the same about other hosts."""
        host = event.host or HostName("fleet")
        key = anonymous(event.message, host), anonymous(event.hint, host)
        self._notes.setdefault(key, []).append(event)

    def _found(self) -> list[str]:
        """Return the lines about the plan that wait to be written, each once."""
        lines = [self._evaluated] if self._evaluated else []
        changing = [event for event in self._planned.values() if event.wave]
        if changing:
            lines.append(f"fleet: plan: {plan_totals(changing)}")
        lines += [_note_line(*same) for same in list(self._notes.items())[:MOST_NOTES]]
        if (more := len(self._notes) - MOST_NOTES) > 0:
            lines.append(f"fleet: {more} more notes; -v shows them")
        self.plan_shown()
        return lines

    def _bad_end(self, event: HostFinished) -> list[str]:
        """Return a line about a host that ended badly, as long as there are few of them."""
        self._bad_ends += 1
        if self._bad_ends <= MOST_ENDS:
            return fact_lines(event)
        return ["fleet: more hosts end badly; the summary names them"] if self._bad_ends == MOST_ENDS + 1 else []


def _note_line(key: tuple[str, str], events: Sequence[FindingReported]) -> str:
    """Return one line for a note, in the words for one host, or in those that fit all of its hosts."""
    hosts = list(dict.fromkeys(event.host or "fleet" for event in events))
    texts = (events[0].message, events[0].hint) if len(hosts) == 1 else key
    return f"{listed(hosts, most=4)}: note: {'; '.join(filter(None, texts))}"
