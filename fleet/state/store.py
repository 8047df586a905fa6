"""The state of one fleet in a folder of this machine: a database, and a folder for each run."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING

from fleet.errors import ConfigError, StateError
from fleet.state.archive import Archive
from fleet.state.folders import EVENTS, Folders
from fleet.state.interface import Request, State, Tidied
from fleet.state.lines import read_events
from fleet.state.recorder import GroupCommit
from fleet.state.records import RunRecord, fold_all
from fleet.state.tidy import KEEP, remove_old

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from fleet.events import Envelope
    from fleet.ledger import Entry, Ledger
    from fleet.model import HostName, RunId
    from fleet.state.interface import Asked, BaselineRecord, Delivery, PlanRecord, Recorder, SeenRecord
    from fleet.state.ledgers import Entered


class FolderState(State):
    """See `State`. Nothing is made in the folder before there is something to write."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state.db"
        self._archive = Archive(self._path)
        self._folders = Folders(folder)

    def _archive_if_any(self) -> Archive | None:
        """Return what can be read; None if nothing was ever written."""
        return self._archive if os.path.lexists(self._path) else None

    def hold(self, run: RunId) -> AbstractContextManager[Path]:
        return self._folders.hold(run)

    def is_under_way(self, run: RunId) -> bool:
        return self._folders.is_under_way(run)

    def folder(self, run: RunId) -> Path:
        return self._folders.of(run)

    @property
    def ledger(self) -> Ledger:
        return self._archive.ledger

    def recorder(self, run: RunId, *, plan: str | None = None, entered: Entered | None = None) -> Recorder:
        new = RunRecord(id=run, plan=plan)

        def write(envelopes: Sequence[Envelope], *, begins: bool) -> None:
            self._archive.add(new, envelopes, begins=begins, entered=entered)

        return GroupCommit(write)

    def runs(self) -> list[RunRecord]:
        archive = self._archive_if_any()
        known = {record.id: record for record in archive.records()} if archive else {}
        missing = [run for run in self._runs_with_events() if run not in known]
        self._read_in(missing)
        found = known | {run: self._record_in_folder(run) for run in missing}
        return [found[run] for run in sorted(found, reverse=True)]

    def run(self, run: RunId) -> RunRecord | None:
        archive = self._archive_if_any()
        for record in archive.records(run) if archive else ():
            return record
        if run not in self._runs_with_events():
            return None
        self._read_in([run])
        return self._record_in_folder(run)

    def runs_in_folders(self) -> list[RunRecord]:
        with contextlib.suppress(StateError):
            return [self._record_in_folder(run) for run in self._runs_with_events()]
        return []

    def events(self, run: RunId, *, after: int = 0) -> list[Envelope]:
        archive = self._archive_if_any()
        found = archive.events(run, after) if archive else None
        if found is None:
            self._read_in([run] if run in self._runs_with_events() else [])
            found = [envelope for envelope in self._events_in_folder(run) if envelope.seq > after]
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
        found = archive.plan_texts(digest) if archive and digest else {}
        if digest not in found and len(found) != 1:
            what = f"there are {len(found)} plans whose digest begins with" if found else "there is no plan"
            raise ConfigError(f"{what} {digest} in this machine's memory", hint="fleet plan makes a new one")
        return found[digest] if digest in found else next(iter(found.values()))

    def plan_folder(self, digest: str) -> Path:
        return self._path.parent / "plans" / digest

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
                    self.delivery_root(host).unlink(missing_ok=True)

    def deliveries(self) -> list[Delivery]:
        archive = self._archive_if_any()
        return archive.deliveries() if archive else []

    def delivery_root(self, host: HostName) -> Path:
        return self._path.parent / "deliveries" / host

    def tidy(self, *, keep: int = KEEP, dry_run: bool = False) -> Tidied:
        archive = self._archive_if_any()
        runs = {*self._runs_with_events(), *(archive.run_ids() if archive else ())}
        builds = [run for run in self._folders.all() if run not in runs]

        def old(
            those: Iterable[RunId], is_needed: Callable[[RunId], bool], remove: Callable[[RunId], bool]
        ) -> tuple[RunId, ...]:
            remove = (lambda _: True) if dry_run else remove
            return remove_old(those, self._folders, keep=keep, is_needed=is_needed, remove=remove)

        old_runs = old(runs, self._is_open, self._remove)
        old_builds = old(builds, self._folders.has_events, self._folders.remove)
        if archive is None:
            return Tidied(runs=old_runs, builds=old_builds)
        if dry_run:
            plans, deliveries = archive.expired(without=old_runs)
            return Tidied(runs=old_runs, builds=old_builds, plans=plans, deliveries=deliveries)
        plans, deliveries = archive.forget_expired_plans(), tuple(archive.forget_expired_deliveries())
        for host in deliveries:
            self.delivery_root(host).unlink(missing_ok=True)
        for digest in plans:
            shutil.rmtree(self.plan_folder(digest), ignore_errors=True)
        return Tidied(runs=old_runs, builds=old_builds, plans=plans, deliveries=deliveries)

    def _runs_with_events(self) -> list[RunId]:
        """Return the runs that have events in their folders, newest first."""
        return [run for run in self._folders.all() if self._folders.has_events(run)]

    def _events_in_folder(self, run: RunId) -> list[Envelope]:
        return read_events(self.folder(run) / EVENTS, run)

    def _record_in_folder(self, run: RunId) -> RunRecord:
        return fold_all(RunRecord(id=run), self._events_in_folder(run))

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

    def _is_open(self, run: RunId) -> bool:
        record = self.run(run)
        return record is not None and record.is_open

    def _remove(self, run: RunId) -> bool:
        """Remove the run, its folder first: one that is removed only half is found again, and removed the next time."""
        is_gone = self._folders.remove(run)
        if is_gone:
            self._archive.forget(run)
        return is_gone
