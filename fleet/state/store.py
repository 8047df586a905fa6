"""The state of one fleet: a database, and a folder for each run of this machine."""

from __future__ import annotations

import contextlib
import functools
import shutil
import time
from typing import TYPE_CHECKING

from fleet.errors import StateError
from fleet.state.archive import Archive, the_plan
from fleet.state.folders import EVENTS, Folders
from fleet.state.interface import Request, State, Tidied
from fleet.state.lines import read_events
from fleet.state.recorder import GroupCommit
from fleet.state.records import RunRecord, fold_all
from fleet.state.tidy import KEEP, remove_left_over, remove_old, remove_root, still_needed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from fleet.events import Envelope
    from fleet.ledger import Entry, Ledger
    from fleet.model import HostName, RunId
    from fleet.state.crew import Crew
    from fleet.state.database import Database
    from fleet.state.entered import Entered
    from fleet.state.interface import Asked, BaselineRecord, Delivery, JointRecord, PlanRecord, Recorder, SeenRecord
    from fleet.state.leases import Leases


class FolderState(State):
    """See `State`. Nothing is made in the folder before there is something to write."""

    def __init__(self, folder: Path, database: Database, leases: Leases | None = None) -> None:
        """`leases` are for a database that other machines use too."""
        self._path = folder
        self._database = database
        self._archive = Archive(folder, database)
        self._folders = Folders(folder)
        self._leases = leases

    def _archive_if_any(self) -> Archive | None:
        """Return what can be read; None if nothing was ever written."""
        return self._archive if self._database.exists else None

    @contextlib.contextmanager
    def hold(self, run: RunId, *, is_new: bool = False) -> Iterator[Path]:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(self._folders.hold(run))
            if self._leases is not None:
                stack.enter_context(self._leases.held(run, folder, is_new=is_new))
            yield folder

    def is_under_way(self, run: RunId) -> bool:
        return run in self.under_way([run])

    def under_way(self, runs: Collection[RunId]) -> set[RunId]:
        here = {run for run in runs if self._folders.is_under_way(run)}
        if self._leases is not None:
            with contextlib.suppress(StateError):
                return here | self._leases.living({run: self.folder(run) for run in runs if run not in here})
        return here

    def folder(self, run: RunId) -> Path:
        return self._folders.of(run)

    @property
    def ledger(self) -> Ledger:
        return self._archive.ledger

    @functools.cached_property
    def crew(self) -> Crew:
        from fleet.state.crew import Crew  # most fleets have no workers

        return Crew.of(self._database, self._archive.ledger)

    def recorder(self, run: RunId, *, plan: str | None = None, entered: Entered | None = None) -> Recorder:
        new = RunRecord(id=run, plan=plan)

        def write(envelopes: Sequence[Envelope], *, begins: bool) -> None:
            self._archive.add(new, envelopes, begins=begins, entered=entered)

        def note(is_behind: bool) -> None:  # noqa: FBT001 - the recorder says it
            self._folders.mark_behind(run, plan, is_behind=is_behind)

        return GroupCommit(write, patience=self._database.patience, on_behind=note)

    def joint_record(
        self, run: RunId, *, by: str, entered: Entered | None = None
    ) -> AbstractContextManager[JointRecord]:
        return self._archive.joint_record(run, by, entered)

    def catch_up(self) -> None:
        with contextlib.suppress(StateError):
            self._catch_up()
            if self.ledger.kept_for_later():
                self.ledger.enter()

    def runs(self) -> list[RunRecord]:
        behind = self._catch_up()
        archive = self._archive_if_any()
        found = {record.id: record for record in archive.records()} if archive else {}
        missing = [run for run in self._runs_to_read_in() if run not in found]
        self._read_in(missing)
        found |= {run: self._record_in_folder(run) for run in missing}
        found |= {run: self._with_folder(found.get(run) or RunRecord(id=run, plan=behind[run])) for run in behind}
        return [found[run] for run in sorted(found, reverse=True)]

    def run_ids(self) -> list[RunId]:
        archive = self._archive_if_any()
        return sorted({*self._runs_to_read_in(), *(archive.run_ids() if archive else ())}, reverse=True)

    def run(self, run: RunId) -> RunRecord | None:
        behind = self._catch_up()
        archive = self._archive_if_any()
        found = next(iter(archive.records(run)), None) if archive else None
        if run in behind:
            return self._with_folder(found or RunRecord(id=run, plan=behind[run]))
        if found is not None or run not in self._runs_to_read_in():
            return found
        self._read_in([run])
        return self._record_in_folder(run)

    def runs_in_folders(self) -> list[RunRecord]:
        with contextlib.suppress(StateError):
            return [self._record_in_folder(run) for run in self._runs_with_events()]
        return []

    def events(self, run: RunId, *, after: int = 0) -> list[Envelope]:
        is_behind = run in self._catch_up()
        archive = self._archive_if_any()
        found = archive.events(run, after) if archive else None
        if found is None and not is_behind:
            self._read_in([run] if run in self._runs_to_read_in() else [])
        if found is None or is_behind:
            last = found[-1].seq if found else after
            found = [*(found or ()), *(one for one in self._events_in_folder(run) if one.seq > last)]
        return found

    def speeds(self) -> dict[HostName, float]:
        archive = self._archive_if_any()
        with contextlib.suppress(StateError):
            return archive.speeds() if archive else {}
        return {}

    def remember_seen(self, seen: Mapping[HostName, SeenRecord], *, known: Collection[HostName]) -> None:
        self._archive.remember_seen(seen, known)

    def seen(self) -> dict[HostName, SeenRecord]:
        archive = self._archive_if_any()
        with contextlib.suppress(StateError):
            return archive.seen() if archive else {}
        return {}

    def keep_plan(self, digest: str, text: str, *, expires: float, entry: Entry | None = None) -> None:
        self._archive.keep_plan(digest, text, expires=expires, entry=entry)

    def plan(self, digest: str) -> str:
        archive = self._archive_if_any()
        return the_plan(archive.plan_texts(digest) if archive and digest else {}, digest)

    def plan_folder(self, digest: str) -> Path:
        return self._path / "plans" / digest

    def plans(self) -> list[PlanRecord]:
        archive = self._archive_if_any()
        return archive.plans() if archive else []

    def ask(self, run: RunId, asked: Asked | None, *, by: str) -> None:
        self._archive.ask(run, Request(asked, by, time.time()) if asked is not None else None)

    def asked(self, run: RunId) -> Request | None:
        archive = self._archive_if_any()
        return archive.asked(run) if archive else None

    def has_baseline(self, host: HostName) -> bool:
        archive = self._archive_if_any()
        return archive.has_baseline(host) if archive else False

    def baseline(self, host: HostName) -> BaselineRecord | None:
        archive = self._archive_if_any()
        return archive.baseline(host) if archive else None

    def keep_baseline(self, host: HostName, record: BaselineRecord) -> None:
        self._archive.keep_baseline(host, record)

    def want(self, deliveries: Sequence[Delivery]) -> None:
        self._archive.want(deliveries)

    def no_longer_want(self, hosts: Collection[HostName], *, before: RunId) -> None:
        archive = self._archive_if_any()
        known = {delivery.host for delivery in archive.deliveries()} if archive else set()
        if archive and (concerned := [host for host in hosts if host in known]):
            archive.no_longer_want(concerned, before)
            left = {delivery.host for delivery in archive.deliveries()}
            for host in concerned:
                if host not in left:
                    remove_root(self.delivery_root(host))

    def deliveries(self) -> list[Delivery]:
        archive = self._archive_if_any()
        return archive.deliveries() if archive else []

    def delivery_root(self, host: HostName) -> Path:
        return self._path / "deliveries" / host

    def tidy(self, *, keep: int = KEEP, dry_run: bool = False) -> Tidied:
        archive = self._archive_if_any()
        runs = {*self._runs_with_events(), *(archive.run_ids() if archive else ())}
        builds = [run for run in self._folders.all() if run not in runs]

        def old(
            those: Iterable[RunId], is_needed: Callable[[RunId], bool], remove: Callable[[RunId], bool]
        ) -> tuple[RunId, ...]:
            remove = (lambda _: True) if dry_run else remove
            return remove_old(those, self._folders, keep=keep, is_needed=is_needed, remove=remove)

        waiting = {delivery.run for delivery in self.deliveries()}
        old_runs = old(runs, still_needed(self.run, self._lives, keep=keep, waiting=waiting), self._remove)
        old_builds = old(builds, self._folders.has_events, self._folders.remove)
        if archive is None:
            return Tidied(runs=old_runs, builds=old_builds)
        if dry_run:
            plans, deliveries = archive.expired(without=old_runs)
            return Tidied(runs=old_runs, builds=old_builds, plans=plans, deliveries=deliveries)
        plans, deliveries = archive.forget_expired_plans(), tuple(archive.forget_expired_deliveries())
        for host in deliveries:
            remove_root(self.delivery_root(host))
        for digest in plans:
            shutil.rmtree(self.plan_folder(digest), ignore_errors=True)
        if self._database.is_shared:
            remove_left_over(self._path / "plans", {plan.digest for plan in archive.plans()})
        remove_left_over(self._path / "deliveries", {delivery.host for delivery in archive.deliveries()})
        return Tidied(runs=old_runs, builds=old_builds, plans=plans, deliveries=deliveries)

    def _runs_with_events(self) -> list[RunId]:
        """Return the runs that have events in their folders, newest first."""
        return [run for run in self._folders.all() if self._folders.has_events(run)]

    def _events_in_folder(self, run: RunId) -> list[Envelope]:
        return read_events(self.folder(run) / EVENTS, run)

    def _record_in_folder(self, run: RunId) -> RunRecord:
        return fold_all(RunRecord(id=run), self._events_in_folder(run))

    def _with_folder(self, record: RunRecord) -> RunRecord:
        """Return the record with what the run's folder knows beyond it."""
        return fold_all(record, [one for one in self._events_in_folder(record.id) if one.seq > record.last_seq])

    def _read_in(self, runs: Iterable[RunId]) -> None:
        """Copy the events in the folders of these runs to the database, as far as that is possible now.

        A run that is under way is left out: it may belong to an older fleet, which goes on writing to the folder only.
        The next reader finds what was left out.
        """
        with contextlib.suppress(StateError):
            for run in runs:
                with contextlib.suppress(OSError), self._folders.kept_from_changing(run) as is_at_rest:
                    if is_at_rest:
                        self._archive.add_all(run, self._events_in_folder(run))

    def _catch_up(self) -> dict[RunId, str | None]:
        """Bring to the database what runs of this machine could not write there, as far as that is possible now.

        Return the runs of which their folders still know more, each with the digest of its plan.
        """
        behind = self._folders.behind()
        with contextlib.suppress(StateError):
            for run, plan in list(behind.items()):
                with contextlib.suppress(OSError), self._folders.kept_from_changing(run) as is_at_rest:
                    if is_at_rest:
                        if events := self._events_in_folder(run):
                            self._archive.catch_up(run, plan, events)
                        self._folders.mark_behind(run, plan, is_behind=False)
                        del behind[run]
        return behind

    def _runs_to_read_in(self) -> list[RunId]:
        """Return the runs whose events may be in their folders only, newest first.

        A database that other machines use has all runs. What it does not have, one of them has tidied away.
        """
        return [] if self._database.is_shared else self._runs_with_events()

    def _lives(self, run: RunId) -> bool:
        return self._leases is not None and run in self._leases.living({run: self.folder(run)})

    def _remove(self, run: RunId) -> bool:
        """Remove the run, its folder first: one that is removed only half is found again, and removed the next time."""
        is_gone = self._folders.remove(run)
        if is_gone:
            self._archive.forget(run)
        return is_gone
