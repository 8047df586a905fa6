"""Keep what a screen shows of a run: a row for each host, the run as a whole, and what is waited for. Draws nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fleet.events import (
    BuildFinished,
    CheckReported,
    EvaluationFinished,
    Event,
    HostCondemned,
    HostFetched,
    HostFinished,
    HostPlanned,
    HostProven,
    HostQueued,
    HostSwitched,
    OutputLine,
    PhaseStarted,
    PushFinished,
    PushProgressed,
    RolloutAsked,
    RunStarted,
    SoakFinished,
    SoakStarted,
    UndoStarted,
    WaveStarted,
)
from fleet.model import Goal, HostName, HostResult, Outcome, Phase, Verb
from fleet.output.facts import SHARED_PHASES, outcome_words
from fleet.output.format import counted, human_seconds, one_line
from fleet.output.progress import Pushes
from fleet.output.rows import Row
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from fleet.output.rows import Within

WITHOUT_NIX = (Verb.REBOOT, Verb.RESUME, Verb.ROLLBACK)
"""What is done without evaluating anything."""
DONE = (Outcome.KEPT, Outcome.STAGED, Outcome.ROLLED_BACK, Outcome.NEEDS_HUMAN)
"""How hosts end that something has happened to."""
FEW = 3
"""The most hosts that are named as those who are waited for."""


def _unknown(_host: HostName, _check: str) -> None:
    return None


class Board:
    """Follows events. `clock` returns seconds. Not thread-safe: its owner holds a lock."""

    def __init__(self, clock: Callable[[], float], *, within: Within = _unknown) -> None:
        self._clock = clock
        self._within = within
        self._rows: dict[HostName, Row] = {}
        self._planned: set[HostName] = set()
        """The hosts that something will happen to."""
        self._good = Outcome.KEPT
        """The outcome that the run is for."""
        self._wave = ""
        self._soak: tuple[int, float] | None = None
        """The wave that soaks, and until when."""
        self._is_paused = False
        self._started: float | None = None
        self._shared: tuple[str, float] | None = None
        """What happens to all hosts together, and since when."""
        self._hosts: tuple[HostName, ...] = ()
        """The hosts that are waited for, where somebody says so."""
        self._looked_at = 0
        """How many hosts have begun their preflight: of many, most wait for their turn."""
        self._evaluates = True
        """Whether Nix has something to do when the hosts have answered."""
        self._last = ""
        self._pushes = Pushes(clock)
        self._contacted: Callable[[], Collection[HostName]] | None = None
        """Returns the hosts that are being contacted and have not answered; None if nobody can tell."""

    def see(self, event: Event) -> None:
        """Take the event into account."""
        self._pushes.see(event)
        match event:
            case RunStarted(hosts=hosts, verb=verb, goal=goal):
                self._rows = {host: Row(host) for host in hosts}
                self._started, self._shared = self._clock(), None
                self._evaluates = verb not in WITHOUT_NIX
                self._good = Outcome.STAGED if verb == "push" or goal is Goal.DRY_ACTIVATE else Outcome.KEPT
            case PhaseStarted(phase=phase) if phase in SHARED_PHASES:
                self._enter_shared(phase)
                self._looked_at += phase is Phase.PREFLIGHT
            case EvaluationFinished():
                self._enter_shared(Phase.BUILD)
            case BuildFinished():
                self.wait_for("plan")
            case HostPlanned(host=host, wave=wave) if wave:
                self._planned.add(host)
            case WaveStarted() | SoakStarted() | SoakFinished() | RolloutAsked() | UndoStarted():
                self._see_rollout(event)
            case OutputLine(host=None) | OutputLine(phase=Phase.EVALUATE | Phase.BUILD):
                if event.phase in SHARED_PHASES:  # no host enters these alone: the output of Nix shows that they began
                    self._enter_shared(event.phase)
                self._last = one_line(event.text)
            case _:
                self._see_host(event)

    def _see_rollout(self, event: WaveStarted | SoakStarted | SoakFinished | RolloutAsked | UndoStarted) -> None:
        match event:
            case WaveStarted(wave=wave, waves=waves):
                self._wave, self._last = f"wave {wave}/{waves}" if waves > 1 else "", ""
            case SoakStarted(wave=wave, seconds=seconds):
                self._soak = (wave, self._clock() + seconds)
            case SoakFinished():
                self._soak = None
            case RolloutAsked(asked=asked):
                self._is_paused = asked == "pause"
            case UndoStarted(hosts=hosts):
                self._wave, self._good = "undo", Outcome.ROLLED_BACK
                for host in hosts:
                    self._row(host).begin_anew()

    def wait_for(self, words: str, *, hosts: Sequence[HostName] = ()) -> None:
        """Say what is waited for, and of which hosts, where no event does. Empty words end that."""
        self._hosts = tuple(hosts)
        if self._shared is None or self._shared[0] != words:
            self._shared, self._last = (words, self._clock()) if words else None, ""

    def ask_for_contacted(self, contacted: Callable[[], Collection[HostName]]) -> None:
        """Learn from this function, from now on, which hosts are contacted and have not answered."""
        self._contacted = contacted

    def _enter_shared(self, phase: Phase) -> None:
        self.wait_for(phase.value)

    def _see_host(self, event: Event) -> None:
        match event:
            case PhaseStarted(host=host, phase=phase):
                self._row(host).enter(phase, self._clock())
            case CheckReported(host=host):
                self._row(host).see_check(event, self._clock())
            case HostFinished(host=host, result=result):
                self._finish(self._row(host), result)
            case PushProgressed(host=host):
                self._row(host)
            case HostFetched(host=host, paths=paths):
                self._row(host).last = f"has fetched {counted(paths, 'path')} from its own caches"
            case PushFinished(host=host):
                self._row(host).last = "pushed"
            case HostQueued(host=host, whose=whose):
                self._row(host).last = one_line(f"waits for {whose}")
            case HostSwitched(host=host):
                self._row(host).last = "switched, not proven yet"
            case HostProven(host=host):
                self._row(host).last = "proven"
            case HostCondemned(host=host, reason=reason):
                self._row(host).last = one_line(reason)
            case OutputLine(host=str(host), text=text):
                self._row(host).last = one_line(text)

    def _row(self, host: HostName) -> Row:
        return self._rows.setdefault(host, Row(host))

    def _finish(self, row: Row, result: HostResult) -> None:
        row.outcome = result.outcome

    @property
    def longest_name(self) -> int:
        """The length of the longest name of a host."""
        return max(map(len, self._rows), default=0)

    def elapsed(self, row: Row) -> str:
        """Return how long the host has been worked on."""
        return "" if row.began is None else human_seconds(self._clock() - row.began)

    def doing(self, row: Row) -> str:
        """Return what is told of a host beside its phase: its failing check, its push, or the last that was heard."""
        pushed = self._pushes.words(row.host)
        return row.check_words(self._within, self._clock()) or "  ".join(filter(None, (pushed, row.last)))

    def status(self) -> str:
        """Return one line about what is waited for: all hosts together, or all pushes; nothing if neither is so."""
        if self._has_begun():
            return self._pushes.together()
        if self._shared is None:
            return ""
        phase, since = self._shared
        left = list(self._hosts) or self._unanswered()
        if phase == Phase.PREFLIGHT and left == [] and self._evaluates:
            phase = Phase.EVALUATE.value  # everybody has answered, and Nix may say nothing for a long time
        hosts = f" {counted(len(self._rows), 'host')}" if self._rows else ""
        if phase == Phase.PREFLIGHT and self._looked_at < len(self._rows):
            hosts = f" {self._looked_at} of {counted(len(self._rows), 'host')}"
        waiting = f"; waiting for {listed(left, most=FEW)}" if left and len(left) != len(self._rows) else ""
        return f"{phase}{hosts}, {human_seconds(self._clock() - since)}{waiting}  {self._last}".rstrip()

    def _unanswered(self) -> list[HostName] | None:
        """Return the hosts that are contacted and have not answered; None if that is not known, or not all began."""
        if self._contacted is None or self._looked_at < len(self._rows):
            return None
        return sorted(self._contacted())

    def whole(self) -> str:
        """Return one line for the run as a whole: `9/30 kept · 1 rolled back · wave 1/2 · 14 s`; nothing before it."""
        if self._started is None or not self._has_begun():
            return ""
        counts = Counter(row.outcome for row in self._rows.values() if row.outcome is not None)
        # Those of a rollout that another process has begun are done, and were planned there.
        concerned = [host for host, row in self._rows.items() if host in self._planned or row.outcome in DONE]
        total = len(concerned) if self._planned else len(self._rows)
        parts = [f"{counts.pop(self._good, 0)}/{total} {outcome_words(self._good)}"]
        parts += [f"{counts[outcome]} {outcome_words(outcome)}" for outcome in Outcome if counts[outcome]]
        parts += filter(None, (self._wave, self._halt()))
        return " · ".join([*parts, human_seconds(self._clock() - self._started)])

    def _halt(self) -> str:
        """Return why no host begins now though it could; nothing if that is not so."""
        if self._is_paused:
            return "paused until fleet rollout continue"
        if self._soak is None:
            return ""
        wave, until = self._soak
        return f"wave {wave} soaks, {human_seconds(until - self._clock())} left"

    def waited_for(self) -> tuple[str, str]:
        """Return what is waited for: a word that is the same for as long as that is, and a line about it."""
        if not self._has_begun():
            return (self._shared[0] if self._shared else "", self.status())
        active = [row for row in sorted(self._rows.values(), key=_rank) if row.is_active]
        told = [f"{row.host} ({'; '.join(filter(None, (row.state(), self._short(row))))})" for row in active[:FEW]]
        more = f" and {len(active) - FEW} more" if len(active) > FEW else ""
        waiting = f"; waiting for {', '.join(told)}{more}" if told else ""
        return "hosts", f"{self.whole() or 'working'}{waiting}"

    def _short(self, row: Row) -> str:
        """Return what is told of a host in a line about several."""
        words = row.check_words(self._within, self._clock()) or self._pushes.words(row.host)
        return words or (row.last if row.phase is Phase.HOOK else "")

    def _has_begun(self) -> bool:
        return any(row.began is not None for row in self._rows.values())

    def visible(self, most: int) -> tuple[list[Row], str]:
        """Return at most `most` rows of hosts without an outcome, and words about the others of them.

        Active hosts come first. There are no rows before the first host begins.
        """
        if not self._has_begun():
            return [], ""
        ordered = sorted((row for row in self._rows.values() if row.outcome is None), key=_rank)
        shown, hidden = ordered[:most], ordered[most:]
        return shown, _hidden_words(hidden)


def _rank(row: Row) -> tuple[int, float]:
    return (1, 0) if row.began is None else (0, row.began)


def _hidden_words(rows: list[Row]) -> str:
    counts = Counter("active" if row.is_active else row.state() for row in rows)
    return f"… and {', '.join(f'{count} more {state}' for state, count in counts.items())}" if rows else ""
