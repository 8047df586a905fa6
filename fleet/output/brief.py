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
    PolicyApplied,
    RecordingLost,
    RecordingResumed,
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
from fleet.model import Goal, Phase, Severity
from fleet.output.facts import fact_lines
from fleet.output.findings import Findings
from fleet.output.summary import plan_totals

if TYPE_CHECKING:
    from fleet.model import HostName

MOST_ENDS = 3
"""The most bad ends that are written one by one."""


class Brief:
    """Turns events into lines. What is found while a plan is made waits until the first host begins."""

    def __init__(self) -> None:
        self._evaluated = ""
        self._planned: dict[HostName, HostPlanned] = {}
        self._notes = Findings()
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
                self._notes.add(event)
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
                | PolicyApplied()
                | RecordingLost()
                | RecordingResumed()
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
        self._notes.forget()

    def _wave(self, event: WaveStarted | WaveFinished) -> list[str]:
        """Return a line about the wave, unless there is one wave, or every host is one of its own."""
        return fact_lines(event) if 1 < event.waves < self._count else []

    def _found(self) -> list[str]:
        """Return the lines about the plan that wait to be written, each once."""
        lines = [self._evaluated] if self._evaluated else []
        changing = [event for event in self._planned.values() if event.wave]
        if changing:
            lines.append(f"fleet: plan: {plan_totals(changing)}")
        lines += self._notes.take()
        self.plan_shown()
        return lines

    def _bad_end(self, event: HostFinished) -> list[str]:
        """Return a line about a host that ended badly, as long as there are few of them."""
        self._bad_ends += 1
        if self._bad_ends <= MOST_ENDS:
            return fact_lines(event)
        return ["fleet: more hosts end badly; the summary names them"] if self._bad_ends == MOST_ENDS + 1 else []
