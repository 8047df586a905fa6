"""The interface that the rest of fleet has to the state. Nothing here says where it is kept."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fleet.state.tidy import KEEP

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType

    from fleet.errors import StateError
    from fleet.events import Envelope, Event
    from fleet.ledger import Entry, Ledger
    from fleet.model import Closure, Derivation, HostName, HostResult, RunId
    from fleet.state.crew import Crew
    from fleet.state.entered import Entered
    from fleet.state.records import RunRecord


@dataclass(frozen=True)
class PlanRecord:
    """A plan that is kept. Times are in seconds since 1970."""

    digest: str
    made: float
    expires: float


class Asked(enum.StrEnum):
    """What somebody may ask of a rollout that is under way."""

    PAUSE = "pause"
    """Begin no further host until it is to continue."""
    ABORT = "abort"
    """Begin no further host."""


@dataclass(frozen=True)
class Request:
    """What somebody asks of a rollout now."""

    asked: Asked
    by: str
    at: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class SeenRecord:
    """What was seen of a host when it last answered."""

    at: float
    """Seconds since 1970."""
    body: str
    """A JSON document, whose contents only its writer knows."""


@dataclass(frozen=True)
class BaselineRecord:
    """What was there on a host at its first commit, or was accepted since."""

    at: float
    """When it was last accepted: seconds since 1970."""
    by: str
    """Who has accepted it, or deployed then."""
    body: str
    """A JSON document, whose contents only its writer knows."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What a host should get that was away when it was deployed to. Times are in seconds since 1970."""

    host: HostName
    closure: Closure
    derivation: Derivation | None
    """What the closure is built from; None if it was given, and is in the local store."""
    run: RunId
    """The newest run in which the host was away."""
    by: str
    intent: str
    made: float
    expires: float
    first: float
    """When the first of the deployments ended that it has missed."""
    missed: int
    """How many it has missed."""


@dataclass(frozen=True, kw_only=True)
class Tidied:
    """What `State.tidy` has removed."""

    runs: tuple[RunId, ...] = ()
    builds: tuple[RunId, ...] = ()
    """Folders of runs without events, as `fleet build` makes them."""
    plans: tuple[str, ...] = ()
    """Digests of plans that had expired."""
    deliveries: tuple[HostName, ...] = ()
    """Hosts that should have got something by now."""


class Recorder(Protocol):
    """Writes the events of one run in a thread of its own. Use it as a context manager, which ends with `close`."""

    def record(self, envelope: Envelope) -> None:
        """Take an event, to be written soon together with others. Never blocks and never raises."""

    async def flush(self) -> None:
        """Wait until all events taken so far are on disk, where they outlive a crash and a power cut.

        A database on another machine that cannot be reached is waited for, half a minute from when it was lost. Raise
        `StateError` if one of them is not on disk then. May be called from any event loop.
        """

    @property
    def lost(self) -> StateError | None:
        """Why an event is missing on disk, if one is now. It may be written still."""

    def close(self) -> None:
        """Wait until every event is written or lost and the thread has ended. May be called twice. Never raises."""

    def __enter__(self) -> Recorder: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class JointRecord(Protocol):
    """The record of one run that several processes write, in the hands of one of them for a moment."""

    @property
    def request(self) -> Request | None:
        """What is asked of the rollout of the run; None if nothing is."""

    def has_ended(self, host: HostName) -> bool:
        """Whether the run has a result for the host."""

    def tell(self, *events: Event) -> Sequence[Envelope]:
        """Number these events after all that anybody has told, record them, and return them in their envelopes."""

    def finish(self, result: HostResult) -> Envelope | None:
        """Record the result of a host and return the event; None, and nothing is recorded, if the host has one."""


class State(Protocol):
    """Everything that this machine remembers of one fleet, or all machines that share a database do.

    Methods may be called from any thread. They wait for the disk, so call them with `fleet.state.threads.in_state`
    from an event loop. Those that need the database raise `StateError` if it cannot be used.
    """

    def hold(self, run: RunId, *, is_new: bool = False) -> AbstractContextManager[Path]:
        """Mark the run as under way, while inside, for every process and this one too. It is not removed then.

        Yields the run's folder, which exists and which nobody else can look into. The mark ends with the block or the
        process; for other machines, half a minute after a process that was killed. Those see it if the database can be
        reached: nobody waits long for that, or at all if the run `is_new`. Raise `ConfigError` if the run is under way
        already, and `StateError` if the folder cannot be made.
        """

    def is_under_way(self, run: RunId) -> bool:
        """Whether somebody holds the run, as far as that is known here. Never raises."""

    def under_way(self, runs: Collection[RunId]) -> set[RunId]:
        """Return those of the runs that somebody holds, as far as that is known here. Never raises."""

    def folder(self, run: RunId) -> Path:
        """Return the folder for the roots, bundles and `events.jsonl` of the run. It may not exist any more."""

    @property
    def ledger(self) -> Ledger:
        """What was planned, approved and done, so that later changes to it are seen."""

    @property
    def crew(self) -> Crew:
        """What workers do together. Raise `ConfigError` if no database is shared with them, and `StateError`."""

    def recorder(self, run: RunId, *, plan: str | None = None, entered: Entered | None = None) -> Recorder:
        """Return a recorder for this run, which the caller holds.

        `plan` is the digest of the plan that a new run applies. `entered` says which events come into the ledger too:
        they are on disk together with their entries.
        """

    def joint_record(
        self, run: RunId, *, by: str, entered: Entered | None = None
    ) -> AbstractContextManager[JointRecord]:
        """Have the record of the run alone, while inside, among all processes of all machines.

        What is recorded inside is on disk afterwards, together with the entries of the ledger that `entered` names, or
        nothing is if an error is raised. Everybody else waits, so it should take milliseconds. Raise `ConfigError` if
        nobody has begun to record the run, and `StateError`.
        """

    def catch_up(self) -> None:
        """Write to the database what this machine could not write there before: events, and entries of the ledger.

        That is done as far as it is possible now, and whenever runs are read. Never raises.
        """

    def runs(self) -> list[RunRecord]:
        """Return every run that is remembered, newest first. Folders that fleet 0.1.0 has written are read in."""

    def run_ids(self) -> list[RunId]:
        """Return the runs that are remembered, newest first. Costs little, however much is known of them."""

    def run(self, run: RunId) -> RunRecord | None:
        """Return what is remembered of the run; None if nothing is. A folder of fleet 0.1.0 is read in."""

    def runs_in_folders(self) -> list[RunRecord]:
        """Return what `runs` would, but from the `events.jsonl` in each folder. Use it when `runs` raises.

        Never raises.
        """

    def events(self, run: RunId, *, after: int = 0) -> list[Envelope]:
        """Return the events of the run with numbers above `after`, in order. Progress of pushes is not among them."""

    def speeds(self) -> dict[HostName, float]:
        """Return the speed of the newest push to each host in bytes per second, if one was large enough to measure.

        Never raises: this is an estimate.
        """

    def keep_plan(self, digest: str, text: str, *, expires: float, entry: Entry | None = None) -> None:
        """Write the plan to disk and keep it at least until it expires, in seconds since 1970.

        If it is there already, it stays as it is. If not, `entry` comes into the ledger with it.
        """

    def plan(self, digest: str) -> str:
        """Return the text of the plan whose digest is, or begins with, `digest`.

        Raise `ConfigError` if there is none, or more than one.
        """

    def plan_folder(self, digest: str) -> Path:
        """Return the folder for the roots of a plan. It may not exist; `tidy` removes it with the plan."""

    def plans(self) -> list[PlanRecord]:
        """Return every plan that is kept, newest first. Expired ones are among them until `tidy`."""

    def ask(self, run: RunId, asked: Asked | None, *, by: str) -> None:
        """Ask something of the rollout of a run, in place of what was asked before; None takes that back.

        Whoever goes through with the run sees it within a second or so.
        """

    def asked(self, run: RunId) -> Request | None:
        """Return what is asked of the rollout of a run; None if nothing is."""

    def remember_seen(self, seen: Mapping[HostName, SeenRecord], *, known: Collection[HostName]) -> None:
        """Write what was seen of these hosts, in place of what was seen before. Forget hosts that are not `known`."""

    def seen(self) -> dict[HostName, SeenRecord]:
        """Return what was seen last of each host. Never raises: nothing depends on it."""

    def has_baseline(self, host: HostName) -> bool:
        """Whether something is remembered that was there on the host."""

    def baseline(self, host: HostName) -> BaselineRecord | None:
        """Return what was there on the host when that was last accepted; None if it never was."""

    def keep_baseline(self, host: HostName, record: BaselineRecord) -> None:
        """Remember what is there on the host, in place of what was remembered before."""

    def want(self, deliveries: Sequence[Delivery]) -> None:
        """Remember what hosts should get when they are back, each in place of what it should get before.

        `first` and `missed` go on from there.
        """

    def no_longer_want(self, hosts: Collection[HostName], *, before: RunId) -> None:
        """Forget what these hosts should get since this run or an earlier one."""

    def deliveries(self) -> list[Delivery]:
        """Return what hosts should get when they are back, in the order of their names. Expired ones are not in it."""

    def delivery_root(self, host: HostName) -> Path:
        """Return where the root is of what the host should get. Its folder may not exist."""

    def tidy(self, *, keep: int = KEEP, dry_run: bool = False) -> Tidied:
        """Remove old runs, builds and plans, with their folders and events, and return what was removed.

        With `dry_run`, return what would be. The newest `keep` runs and `keep` builds are kept, and so are runs that
        are under way or that `fleet resume` can still settle, and plans that have not expired or that a kept run
        applies. May run beside anything else.
        """
