"""What the workers of a fleet do together, in a database that all of them reach. Each method is one transaction."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from fleet.errors import ConfigError, StateError
from fleet.state import queries, shares, workers
from fleet.state.database import NoDatabase
from fleet.state.hand import Hand
from fleet.state.hosts import Hosts
from fleet.state.interface import Asked
from fleet.state.records import HostRecord, RunRecord, fold_all
from fleet.state.shares import Rollout, RolloutState, Share, ShareState, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleet.events import Envelope, RunFinished
    from fleet.model import HostName, RunId
    from fleet.state.database import Database
    from fleet.state.entered import Entered
    from fleet.state.jobs import Handler, Jobs
    from fleet.state.ledgers import StoredLedger
    from fleet.state.postgres import PostgresDatabase
    from fleet.state.session import Session
    from fleet.state.workers import WorkerRecord


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A share that a worker has taken."""

    rollout: Rollout
    share: Share
    why_not: str
    """Why it may not begin any more where it has not; nothing if it may."""


class Crew:
    """The workers of one fleet, and what they have to do. All methods raise `StateError`; any thread may call them."""

    def __init__(self, database: PostgresDatabase, ledger: StoredLedger) -> None:
        self._database = database
        self._ledger = ledger

    @classmethod
    def of(cls, database: Database, ledger: StoredLedger) -> Crew:
        """Return the crew in this database. Raise `ConfigError` if only this machine reaches it, and `StateError`."""
        if not database.is_shared:
            hint = "[fleet] state in fleet.toml names one: docs/workers.md"
            raise ConfigError("workers need a PostgreSQL database that all of them reach", hint=hint)
        if isinstance(database, NoDatabase):
            database.reading()
        return cls(cast("PostgresDatabase", database), ledger)

    @functools.cached_property
    def _jobs(self) -> Jobs:
        try:
            from fleet.state.jobs import Jobs  # to look at the rows takes none
        except ImportError as missing:
            why = f"workers need procrastinate, which cannot be imported: {missing}"
            raise StateError(why, hint="pip install 'fleet[scale]'") from missing
        return Jobs(self._database.schema)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Session]:
        with self._database.writing() as session:
            self._jobs.join(session)
            yield session

    def begin(self, rollout: Rollout, of: Sequence[Share]) -> None:
        """Hand a run that is recorded over to the workers. Raise `ConfigError` if it was before."""
        with self._writing() as session:
            if shares.rollout(session, rollout.run) is not None:
                raise ConfigError(f"workers have had run {rollout.run} before")
            shares.add_rollout(session, rollout, of)

    def unfinished(self) -> set[RunId]:
        """Return the runs that workers have something to do for."""
        with self._database.reading() as session:
            return set(shares.runs_in(session, RolloutState.OPEN, RolloutState.ENDING))

    def unheard(self) -> set[RunId]:
        """Return the runs of which something is asked that nobody has heard yet."""
        with self._database.reading() as session:
            return shares.unheard(session)

    def rollout(self, run: RunId) -> Rollout | None:
        """Return how far a rollout has come; None if workers do not carry it out."""
        with self._database.reading() as session:
            return shares.rollout(session, run)

    def join(self, worker: WorkerRecord) -> None:
        """Say that there is a worker, which lives from now on for a while."""
        with self._writing() as session:
            workers.put(session, worker)

    def live(self, worker: WorkerRecord) -> None:
        """Say that a worker which has joined lives. That has to be said again and again, and waits for no lock."""
        with self._database.writing_beside() as session:
            workers.put(session, worker)

    def leave(self, name: str) -> None:
        """Say that a worker is gone. What it still had is for others."""
        with self._writing() as session:
            workers.delete(session, name)

    def workers(self) -> list[WorkerRecord]:
        """Return the workers that live, and those that were lost lately."""
        with self._database.reading() as session:
            return workers.every(session)

    def living_sites(self) -> set[str]:
        """Return the sites that workers live for."""
        with self._database.reading() as session:
            return workers.living_sites(session)

    def claim(self, run: RunId, host: HostName, worker: str) -> Claim | None:
        """Take a share; None if it is not to be taken any more: somebody has it, or it may not begin now."""
        with self._writing() as session:
            rollout = shares.rollout(session, run, locks=True)
            share = shares.share(session, run, host)
            if rollout is None or rollout.state is not RolloutState.OPEN:
                return None
            if share is None or share.state is not ShareState.QUEUED:
                return None
            request = queries.request(session, run)
            why_not = rollout.why
            if request is not None and request.asked is Asked.ABORT:
                why_not = why_not or f"not begun: {request.by} has aborted the rollout"
            is_paused = request is not None and request.asked is Asked.PAUSE
            is_new = share.attempt == 0 and share.step is Step.DELIVER
            if is_new and (is_paused or why_not):
                shares.set_share(session, run, dataclasses.replace(share, state=ShareState.WAITING))
                return None
            taken = dataclasses.replace(share, state=ShareState.DOING, worker=worker, attempt=share.attempt + 1)
            shares.set_share(session, run, taken)
        return Claim(rollout=rollout, share=taken, why_not=why_not)

    def taken_by(self, worker: str) -> set[tuple[RunId, HostName]]:
        """Return what a worker has taken."""
        with self._database.reading() as session:
            return shares.taken_by(session, worker)

    def give_back(self, run: RunId, host: HostName, worker: str) -> None:
        """Let others take a share that this worker has."""
        with self._writing() as session:
            share = shares.share(session, run, host)
            if share is not None and share.state is ShareState.DOING and share.worker == worker:
                given = dataclasses.replace(share, state=ShareState.QUEUED, worker="")
                shares.set_share(session, run, given)
                self._jobs.add(session, run, [given])

    @contextlib.contextmanager
    def hand(self, run: RunId, *, by: str, entered: Entered | None = None) -> Iterator[Hand | None]:
        """Have a rollout alone, while inside, among all processes of all machines; None if workers have it no more."""
        taken = []
        with self._writing() as session:
            rollout = shares.rollout(session, run, locks=True)
            if rollout is None or rollout.state is not RolloutState.OPEN:
                yield None
                return
            hand = Hand(session, rollout, by, self._ledger, entered, self._jobs)
            yield hand
            taken = hand.taken
        self._ledger.remove(taken)

    def mend(self) -> set[RunId]:
        """Let others take what lost workers had, and make jobs that are lost anew. Return the runs concerned."""
        with self._writing() as session:
            concerned = set()
            for run, share in shares.lost(session):
                given = dataclasses.replace(share, state=ShareState.QUEUED, worker="")
                shares.set_share(session, run, given)
                self._jobs.add(session, run, [given])
                concerned.add(run)
            self._jobs.remove_stalled(session)
            for run in shares.runs_in(session, RolloutState.OPEN):
                queued = shares.shares(session, run, ShareState.QUEUED)
                if queued and (without := self._jobs.without(session, run, queued)):
                    self._jobs.add(session, run, without)
                    concerned.add(run)
            workers.forget_lost(session)
        return concerned

    def claim_end(self, run: RunId, worker: str) -> bool:
        """Take it upon this process to tell the end of a run; False if somebody who lives has."""
        with self._writing() as session:
            found = shares.rollout(session, run, locks=True)
            if found is None or found.state is not RolloutState.ENDING:
                return False
            living = {one.name for one in workers.every(session) if one.lives}
            if found.worker and found.worker != worker and found.worker in living:
                return False
            shares.set_rollout(session, dataclasses.replace(found, worker=worker))
        return True

    def end(self, run: RunId, finished: RunFinished, *, by: str, entered: Entered) -> Envelope | None:
        """Tell the end of a run, once; None if somebody has, or has taken the run from the workers."""
        with self._writing() as session:
            found = shares.rollout(session, run, locks=True)
            if found is None or found.state is not RolloutState.ENDING:
                return None
            hand = Hand(session, found, by, self._ledger, entered, self._jobs)
            (envelope,) = hand.tell(finished)
            hand.note(state=RolloutState.ENDED)
            taken = hand.taken
        self._ledger.remove(taken)
        return envelope

    def host_record(self, run: RunId, host: HostName) -> HostRecord:
        """Return what the events of a run say about one host."""
        with self._database.reading() as session:
            rows = queries.record_of_host(session, run, host)
        record = RunRecord(id=run, hosts=Hosts([HostRecord(name=host)]))
        return fold_all(record, queries.envelopes(rows)).hosts[host]

    async def work(self, handler: Handler, *, site: str, places: int, name: str) -> None:
        """See `Jobs.work`."""
        await self._jobs.work(self._database.arguments, handler, site=site, places=places, name=name)
