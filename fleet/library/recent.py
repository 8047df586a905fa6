"""Keep up with the runs that this machine remembers, at the price of what is new."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.events import HostFinished, PhaseStarted
from fleet.state import RunRecord, fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleet.events import Envelope
    from fleet.model import HostName, Phase, RunId
    from fleet.state import State

MOST = 50
"""Runs that are followed, the newest ones."""
AGAIN = 20
"""Of so many looks one is at runs that are over, too: what their process could not record may have come later."""


@dataclass(frozen=True)
class Entered:
    """A phase that a host has entered, and when: seconds since 1970, 0 if that is not known."""

    phase: Phase
    at: float


@dataclass(frozen=True, kw_only=True)
class RecentRun:
    """A run, as far as its events are known."""

    record: RunRecord
    is_under_way: bool = False
    phases: Mapping[HostName, tuple[Entered, ...]] = field(default_factory=dict)
    """The phases that each host has entered, in order."""
    ended: Mapping[HostName, float] = field(default_factory=dict)
    """When the hosts ended that have a result: seconds since 1970, 0 if that is not known."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended, so that nobody goes on with it unless somebody takes it up."""
        return self.record.exit_code is not None

    def phase(self, host: HostName) -> Phase | None:
        """Return the phase that the host is in now; None if it has ended, or nobody goes on with the run."""
        if not self.is_under_way or host in self.ended:
            return None
        entered = self.phases.get(host)
        return entered[-1].phase if entered else None


class RecentRuns:
    """The newest runs. The first look reads all that is known of them."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._known: dict[RunId, RecentRun] = {}
        self._looks = 0

    def look(self) -> Sequence[RecentRun]:
        """Return the runs as they are now, newest first; those in which nothing has happened are the same objects.

        Waits for the disk. Raise `StateError` if this machine's memory cannot be read.
        """
        self._looks += 1
        runs = self._state.run_ids()[:MOST]
        under_way = self._state.under_way(runs)
        self._known = {run: self._look_at(run, is_under_way=run in under_way) for run in runs}
        return list(self._known.values())

    def _look_at(self, run: RunId, *, is_under_way: bool) -> RecentRun:
        known = self._known.get(run)
        if known is None:
            record = self._state.run(run) or RunRecord(id=run)
            found = _with(RecentRun(record=record), self._state.events(run))
            return RecentRun(record=found.record, is_under_way=is_under_way, phases=found.phases, ended=found.ended)
        if known.is_over and not known.is_under_way and not is_under_way and self._looks % AGAIN:
            return known
        new = self._state.events(run, after=known.record.last_seq)
        if not new and known.is_under_way == is_under_way:
            return known
        found = _with(known, new)
        return RecentRun(record=found.record, is_under_way=is_under_way, phases=found.phases, ended=found.ended)


def _with(known: RecentRun, envelopes: Iterable[Envelope]) -> RecentRun:
    """Return the run with these events, some of which its record may have already."""
    record, phases, ended = known.record, dict(known.phases), dict(known.ended)
    for one in envelopes:
        if one.seq > record.last_seq:
            record = fold(record, one)
        match one.event:
            case PhaseStarted(host=host, phase=phase):
                phases[host] = (*phases.get(host, ()), Entered(phase, one.at))
                ended.pop(host, None)
            case HostFinished(host=host):
                ended[host] = one.at
    return RecentRun(record=record, is_under_way=known.is_under_way, phases=phases, ended=ended)
