"""Keep what the terminal shows: a row for each host, and which rows fit. Draws nothing itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.events import (
    BuildFinished,
    EvaluationFinished,
    Event,
    HostCondemned,
    HostFetched,
    HostFinished,
    HostProven,
    HostSwitched,
    OutputLine,
    PhaseStarted,
    PushFinished,
    PushProgressed,
    RunStarted,
    WaveStarted,
)
from fleet.model import HostName, Outcome, Phase
from fleet.output.facts import SHARED_PHASES, outcome_words
from fleet.output.format import counted, human_seconds, one_line
from fleet.output.progress import Pushes

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Row:
    """The present state of one host."""

    host: HostName
    phase: Phase = Phase.WAITING
    began: float | None = None
    """When something first happened to this host alone, by the clock."""
    ended: float | None = None
    last: str = ""
    outcome: Outcome | None = None

    @property
    def is_active(self) -> bool:
        """Whether something happens to the host now."""
        return self.began is not None and self.outcome is None

    def state(self) -> str:
        """Return the phase, or the outcome once there is one."""
        return self.phase.value if self.outcome is None else outcome_words(self.outcome)


class Board:
    """Follows events. `clock` returns seconds. Not thread-safe: its owner holds a lock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rows: dict[HostName, Row] = {}
        self._shared: tuple[Phase, float] | None = None
        self._looked_at = 0
        """How many hosts have begun their preflight: of many, most wait for their turn."""
        self._last = ""
        self._pushes = Pushes(clock)

    def see(self, event: Event) -> None:
        """Take the event into account."""
        self._pushes.see(event)
        match event:
            case RunStarted(hosts=hosts):
                self._rows = {host: Row(host) for host in hosts}
            case PhaseStarted(phase=phase) if phase in SHARED_PHASES:
                self._enter_shared(phase)
                self._looked_at += phase is Phase.PREFLIGHT
            case EvaluationFinished() | BuildFinished() | WaveStarted():
                self._last = ""
            case OutputLine(host=None) | OutputLine(phase=Phase.EVALUATE | Phase.BUILD):
                if event.phase in SHARED_PHASES:  # no host enters these alone: the output of Nix shows that they began
                    self._enter_shared(event.phase)
                self._last = one_line(event.text)
            case _:
                self._see_host(event)

    def _enter_shared(self, phase: Phase) -> None:
        if self._shared is None or self._shared[0] is not phase:
            self._shared = (phase, self._clock())
            self._last = ""

    def _see_host(self, event: Event) -> None:
        match event:
            case PhaseStarted(host=host, phase=phase):
                self._enter(self._row(host), phase)
            case PushProgressed(host=host):
                self._row(host)
            case HostFetched(host=host, paths=paths):
                self._row(host).last = f"has fetched {counted(paths, 'path')} from its own caches"
            case PushFinished(host=host):
                self._row(host).last = "pushed"
            case HostSwitched(host=host):
                self._row(host).last = "switched, not proven yet"
            case HostProven(host=host):
                self._row(host).last = "proven"
            case HostCondemned(host=host, reason=reason):
                self._row(host).last = one_line(reason)
            case OutputLine(host=str(host), text=text):
                self._row(host).last = one_line(text)
            case HostFinished(host=host, result=result):
                self._finish(self._row(host), result.outcome, result.failure.message if result.failure else "")

    def _has_begun(self) -> bool:
        return any(row.began is not None for row in self._rows.values())

    def _row(self, host: HostName) -> Row:
        return self._rows.setdefault(host, Row(host))

    def _enter(self, row: Row, phase: Phase) -> None:
        row.phase = phase
        if row.began is None and phase is not Phase.WAITING:
            row.began = self._clock()

    def _finish(self, row: Row, outcome: Outcome, why: str) -> None:
        row.outcome, row.ended, row.last = outcome, self._clock(), one_line(why)

    def elapsed(self, row: Row) -> str:
        """Return how long the host has been worked on, up to its end."""
        if row.began is None:
            return ""
        return human_seconds((self._clock() if row.ended is None else row.ended) - row.began)

    def pushed(self, row: Row, *, brief: bool = False) -> str:
        """Return the progress of its push, such as `27% of 45.6 MiB, 3.1 MiB/s, 11 s left`, or nothing."""
        return self._pushes.words(row.host, brief=brief)

    def status(self) -> str:
        """Return one line about the run as a whole.

        Before a host is worked on alone, that is the phase, its seconds and the last output; later all pushes together.
        """
        if self._shared is None or self._has_begun():
            return self._pushes.together()
        phase, since = self._shared
        hosts = counted(len(self._rows), "host")
        if phase is Phase.PREFLIGHT and self._looked_at < len(self._rows):
            hosts = f"{self._looked_at} of {hosts}"
        return f"{phase.value} {hosts}, {human_seconds(self._clock() - since)}  {self._last}".rstrip()

    def visible(self, most: int) -> tuple[list[Row], str]:
        """Return at most `most` rows, and words about the others.

        Active hosts come first, then bad ends, then good ones. There are no rows before the first host begins.
        """
        if not self._has_begun():
            return [], ""
        ordered = sorted(self._rows.values(), key=_rank)
        shown, hidden = ordered[:most], ordered[most:]
        return shown, _hidden_words(hidden)


def _rank(row: Row) -> tuple[int, float]:
    if row.outcome is None:
        return (0, row.began) if row.began is not None else (3, 0)
    if not row.outcome.is_good:
        return (1, 0)
    return (2, -(row.ended or 0))


def _hidden_words(rows: list[Row]) -> str:
    counts = Counter("active" if row.is_active else row.state() for row in rows)
    return f"… and {', '.join(f'{count} more {state}' for state, count in counts.items())}" if rows else ""
