"""What is known of the whole fleet at one moment, ready to be shown. Pure functions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.library.status_lines import AWAY, FAILED, FULL, NOTED, OPEN, STUCK, WELL, WENT_BACK, remarks_on, row_of
from fleet.model import Outcome
from fleet.output.format import unprefixed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fleet.inventory import Host, Inventory
    from fleet.library.recent import RecentRun
    from fleet.library.watching import Watched
    from fleet.model import HostName, Phase

WORDS = {
    STUCK: "needs a person",
    FAILED: "units failed",
    AWAY: "away",
    WENT_BACK: "went back",
    OPEN: "changing",
    FULL: "disk full",
    NOTED: "noted",
    WELL: "well",
}
"""What people read of each rank of `status_lines`, the worst first."""
GROUPS = {"bad": (STUCK, FAILED, WENT_BACK, FULL), "away": (AWAY,), "busy": (OPEN,), "noted": (NOTED,), "well": (WELL,)}
"""The ranks that are counted and filtered together, by the class that they are drawn with."""
GROUP_OF = {rank: name for name, ranks in GROUPS.items() for rank in ranks}


@dataclass(frozen=True, kw_only=True)
class HostView:
    """One host, as the table shows it."""

    host: Host
    rank: int
    running: str
    age: str
    generation: str
    pending: str
    reboot: str
    disk: str
    remarks: str
    seen: float | None
    """When it last answered: seconds since 1970. None if it never has."""
    failed_units: tuple[str, ...]
    phase: Phase | None
    """The phase of a run that it is in now."""
    run: str
    """The newest run that it was in. Empty if none is known."""

    @property
    def name(self) -> HostName:
        """Its name."""
        return self.host.name

    @property
    def word(self) -> str:
        """How it is, in a word or two."""
        return "not seen yet" if self.seen is None and self.rank == NOTED else WORDS[self.rank]

    @property
    def group(self) -> str:
        """What it is counted with: a key of `GROUPS`."""
        return GROUP_OF[self.rank]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The whole fleet."""

    number: int
    """Counts pictures."""
    inventory: Inventory
    hosts: Mapping[HostName, HostView]
    """The worst first."""
    watched: Mapping[HostName, Watched]
    runs: Sequence[RecentRun]
    """The newest first."""
    trouble: Sequence[str] = ()
    """Why some of it may be old."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many hosts each group has."""

    def run(self, run: str) -> RecentRun | None:
        """Return the run with this id; None if there is none here."""
        return next((one for one in self.runs if one.record.id == run), None)

    def runs_of(self, host: HostName) -> Iterator[RecentRun]:
        """Yield the runs that the host was in, the newest first."""
        return (one for one in self.runs if host in one.record.hosts)


def picture(
    number: int,
    inventory: Inventory,
    watched: Mapping[HostName, Watched],
    runs: Sequence[RecentRun],
    *,
    now: float,
    trouble: Sequence[str] = (),
) -> Picture:
    """Return the fleet as it is known now, in seconds since 1970."""
    newest: dict[HostName, RecentRun] = {}
    for run in reversed(runs):
        newest.update(dict.fromkeys(run.record.hosts, run))
    every = [
        _view(host, watched[name], newest.get(name), now) for name, host in inventory.hosts.items() if name in watched
    ]
    every.sort(key=lambda one: one.rank)
    counts = Counter(one.group for one in every)
    return Picture(
        number=number,
        inventory=inventory,
        hosts={one.name: one for one in every},
        watched=watched,
        runs=runs,
        trouble=trouble,
        counts={name: counts[name] for name in GROUPS},
    )


def _view(host: Host, one: Watched, run: RecentRun | None, now: float) -> HostView:
    row = row_of(host.name, one, now)
    running, age, generation, _, pending, reboot, disk, _ = row.cells
    failed = one.last.failed_units if one.last is not None else ()
    phase = run.phase(host.name) if run is not None else None
    return HostView(
        host=host,
        rank=min(_rank(row.rank, one), *_ranks_of_run(host.name, run)),
        running=running,
        age=age,
        generation=generation,
        pending=pending,
        reboot=reboot,
        disk=disk,
        remarks="; ".join([*_failure(host.name, run), *remarks_on(host.name, one, now)]),
        seen=one.last.at if one.last is not None else None,
        failed_units=failed,
        phase=phase,
        run=run.record.id if run is not None else "",
    )


def _failure(name: HostName, run: RecentRun | None) -> Iterator[str]:
    """Yield why the host did not end well in its newest run."""
    result = run.record.hosts[name].result if run is not None else None
    if result is not None and result.failure is not None and result.outcome.counts_against_run:
        yield unprefixed(result.failure.message, name)


def _rank(rank: int, one: Watched) -> int:
    """Return the rank of a host, also of one that was not asked: then by what it was when it last answered."""
    if one.answer is not None:
        return rank
    if one.waits is not None:
        return AWAY
    if one.last is None:
        return NOTED
    return FAILED if one.last.failed_units else NOTED if one.last.reboot_pending else WELL


def _ranks_of_run(name: HostName, run: RecentRun | None) -> Iterator[int]:
    """Yield the ranks that follow from the newest run of a host."""
    yield WELL
    if run is None:
        return
    if run.phase(name) is not None:
        yield OPEN
    result = run.record.hosts[name].result
    if result is None:
        return
    if result.outcome is Outcome.NEEDS_HUMAN:
        yield STUCK
    elif result.outcome in (Outcome.FAILED, Outcome.ROLLED_BACK):
        yield WENT_BACK


def matches(view: HostView, words: Sequence[str]) -> bool:
    """Whether all of these words are about the host: parts of its name, kind, tags or of what it runs, or @TAG."""
    told = (view.name, view.host.kind.value, *view.host.tags, view.running, view.word)
    return all(
        word[1:] in view.host.tags if word.startswith("@") else any(word in text.lower() for text in told)
        for word in words
    )
