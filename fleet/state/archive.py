"""Read and write the database. Each method is one transaction, or reads what is consistent at one moment."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time
from typing import TYPE_CHECKING

from fleet.errors import ConfigError, StateError
from fleet.events import PushFinished
from fleet.state import baselines, queries
from fleet.state.entered import Entered
from fleet.state.interface import PlanRecord, Request
from fleet.state.joint import StoredRecord
from fleet.state.ledgers import StoredLedger
from fleet.state.records import RunRecord, fold, fold_all

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from fleet.events import Envelope
    from fleet.ledger import Entry
    from fleet.model import HostName, RunId
    from fleet.state.database import Connection, Database
    from fleet.state.interface import BaselineRecord, Delivery, SeenRecord

ENOUGH = 1 << 20
"""The least bytes that a push must have sent for its speed to count: in smaller ones round trips take most of the
time."""


class Archive:
    """Runs, their events, and plans. The first write makes the tables. All methods raise `StateError`."""

    def __init__(self, folder: Path, database: Database) -> None:
        """`folder` is for entries of the ledger that wait for the database."""
        self._database = database
        self.ledger = StoredLedger(folder, database)

    def records(self, run: RunId | None = None) -> list[RunRecord]:
        """Return the records of all runs, newest first, or that of one run if it is there."""
        with self._database.reading() as connection:
            found = queries.records(connection, run)
        # The query leaves out events that change no record, and gives the number of the last event by itself.
        return [
            dataclasses.replace(fold_all(record, queries.envelopes(rows)), last_seq=record.last_seq)
            for record, rows in found
        ]

    def run_ids(self) -> set[RunId]:
        """Return the ids of all runs in the database."""
        with self._database.reading() as connection:
            return queries.run_ids(connection)

    def events(self, run: RunId, after: int) -> list[Envelope] | None:
        """Return the events of the run with numbers above `after`, in order; None if the run is not there."""
        with self._database.reading() as connection:
            rows = queries.event_rows(connection, run, after) if queries.has_run(connection, run) else None
        return None if rows is None else list(queries.envelopes(rows))

    def add(
        self, new: RunRecord, envelopes: Sequence[Envelope], *, begins: bool, entered: Entered | None = None
    ) -> None:
        """Add events, and the run `new` too if they begin with its first event and it is not there.

        Those that `entered` names come into the ledger with them. What is there already, since only the answer was lost
        that it is, stays. Raise `StateError` if they do not begin the run and it is not there, or if another process
        goes on with it.
        """
        taken: Sequence[Path] = ()
        with self._database.writing() as connection:
            last = queries.last_number(connection, new.id)
            if last is None and not begins:
                raise StateError(f"the database was replaced while run {new.id} was under way")
            if last is None:
                queries.add_run(connection, fold(new, envelopes[0]))
            rest = _rest(connection, envelopes, last or 0)
            queries.add_events(connection, rest)
            entries = list(entered.entries(rest)) if entered is not None else []
            if entries:
                _, taken = self.ledger.add(connection, entries)
        self.ledger.remove(taken)

    @contextlib.contextmanager
    def joint_record(self, run: RunId, by: str, entered: Entered | None) -> Iterator[StoredRecord]:
        """See `State.joint_record`."""
        with self._database.writing() as connection:
            if not queries.has_run(connection, run):
                raise ConfigError(f"nothing is recorded of run {run}", hint="fleet runs lists what there is")
            record = StoredRecord(connection, run, by, self.ledger, entered)
            yield record
        self.ledger.remove(record.taken)

    def catch_up(self, run: RunId, plan: str | None, envelopes: Sequence[Envelope]) -> None:
        """Add what is missing of a run whose process could not write to the end, with its entries of the ledger.

        `envelopes` is all that it told. Where another process has gone on with the run, that one's words stand.
        """
        record = fold_all(RunRecord(id=run, plan=plan), envelopes)
        with self._database.writing() as connection:
            queries.add_run(connection, record)
            rest = _missing(connection, envelopes, queries.last_number(connection, run) or 0)
            queries.add_events(connection, rest)
            taken = self.ledger.catch_up(connection, Entered(socket.gethostname(), record.known_verb), rest)
        self.ledger.remove(taken)

    def add_all(self, run: RunId, envelopes: Sequence[Envelope]) -> None:
        """Add the run with all of its events, unless it is there already."""
        record = fold_all(RunRecord(id=run), envelopes)
        with self._database.writing() as connection:
            if queries.add_run(connection, record):
                queries.add_events(connection, envelopes)

    def forget(self, run: RunId) -> None:
        """Delete the run and its events."""
        taken: Sequence[Path] = ()
        with self._database.writing() as connection:
            if not queries.has_ended(connection, run):
                taken = self.ledger.close(connection, run)
            queries.delete_run(connection, run)
        self.ledger.remove(taken)

    def speeds(self) -> dict[HostName, float]:
        """See `State.speeds`."""
        with self._database.reading() as connection:
            rows = queries.pushes(connection)
        found: dict[HostName, float] = {}
        for envelope in queries.envelopes(rows):
            push = envelope.event
            if isinstance(push, PushFinished) and push.wire_bytes >= ENOUGH and push.seconds > 0:
                found.setdefault(push.host, push.wire_bytes / push.seconds)
        return found

    def remember_seen(self, seen: Mapping[HostName, SeenRecord], known: Collection[HostName]) -> None:
        """See `State.remember_seen`."""
        with self._database.writing() as connection:
            queries.add_seen(connection, seen)
            queries.delete_seen(connection, queries.all_seen(connection).keys() - set(known))

    def seen(self) -> dict[HostName, SeenRecord]:
        """See `State.seen`. Raise `StateError`."""
        with self._database.reading() as connection:
            return queries.all_seen(connection)

    def has_baseline(self, host: HostName) -> bool:
        """See `State.has_baseline`."""
        with self._database.reading() as connection:
            return baselines.has(connection, host)

    def baseline(self, host: HostName) -> BaselineRecord | None:
        """See `State.baseline`."""
        with self._database.reading() as connection:
            return baselines.read(connection, host)

    def keep_baseline(self, host: HostName, record: BaselineRecord) -> None:
        """See `State.keep_baseline`."""
        with self._database.writing() as connection:
            baselines.write(connection, host, record)

    def want(self, deliveries: Sequence[Delivery]) -> None:
        """See `State.want`."""
        with self._database.writing() as connection:
            queries.set_deliveries(connection, deliveries)

    def no_longer_want(self, hosts: Collection[HostName], before: RunId) -> None:
        """See `State.no_longer_want`."""
        with self._database.writing() as connection:
            queries.delete_deliveries(connection, hosts, before)

    def deliveries(self) -> list[Delivery]:
        """See `State.deliveries`."""
        with self._database.reading() as connection:
            return queries.deliveries(connection, time.time())

    def forget_expired_deliveries(self) -> list[HostName]:
        """Delete what hosts should have got by now, and return those hosts."""
        with self._database.writing() as connection:
            return queries.delete_expired_deliveries(connection, time.time())

    def keep_plan(self, digest: str, text: str, *, expires: float, entry: Entry | None = None) -> None:
        """See `State.keep_plan`."""
        taken: Sequence[Path] = ()
        with self._database.writing() as connection:
            is_new = queries.add_plan(connection, PlanRecord(digest, time.time(), expires), text)
            if is_new and entry is not None:
                _, taken = self.ledger.add(connection, [entry])
        self.ledger.remove(taken)

    def plan_texts(self, prefix: str) -> dict[str, str]:
        """Return the texts of the plans whose digests begin with `prefix`, by digest."""
        with self._database.reading() as connection:
            return queries.plan_texts(connection, prefix)

    def plans(self) -> list[PlanRecord]:
        """See `State.plans`."""
        with self._database.reading() as connection:
            return queries.all_plans(connection)

    def ask(self, run: RunId, request: Request | None) -> None:
        """See `State.ask`."""
        with self._database.writing() as connection:
            queries.set_request(connection, run, request)

    def asked(self, run: RunId) -> Request | None:
        """See `State.asked`."""
        with self._database.reading() as connection:
            return queries.request(connection, run)

    def expired(self, *, without: Collection[RunId]) -> tuple[tuple[str, ...], tuple[HostName, ...]]:
        """Return the plans that would be forgotten if these runs were, by their digests, and the hosts that should have
        got something by now.
        """
        now, kept = time.time(), {record.plan for record in self.records() if record.id not in without}
        plans = sorted(plan.digest for plan in self.plans() if plan.expires <= now and plan.digest not in kept)
        with self._database.reading() as connection:
            return tuple(plans), tuple(queries.expired_deliveries(connection, now))

    def forget_expired_plans(self) -> tuple[str, ...]:
        """Delete the plans that have expired and that no run applies, and return their digests."""
        with self._database.writing() as connection:
            return tuple(queries.delete_expired_plans(connection, time.time()))


def the_plan(found: Mapping[str, str], digest: str) -> str:
    """Return the one text that `digest` stands for, of those that begin so. Raise `ConfigError` if it is not clear."""
    if digest not in found and len(found) != 1:
        what = f"there are {len(found)} plans whose digest begins with" if found else "there is no plan"
        raise ConfigError(f"{what} {digest} in this machine's memory", hint="fleet plan makes a new one")
    return found[digest] if digest in found else next(iter(found.values()))


def _rest(connection: Connection, envelopes: Sequence[Envelope], last: int) -> Sequence[Envelope]:
    """Return the events that are not there yet. `last` is the number of the last one that is."""
    if last < envelopes[0].seq:
        return envelopes
    try:
        return queries.not_there(connection, envelopes)
    except queries.TakenError:
        run = envelopes[0].run
        raise StateError(f"another process goes on with run {run}", hint=f"fleet runs show {run}") from None


def _missing(connection: Connection, envelopes: Sequence[Envelope], last: int) -> Sequence[Envelope]:
    """Return the events with numbers above `last`; none if the one with that number is another process's."""
    known = [envelope for envelope in envelopes if envelope.seq <= last]
    if known:
        try:
            queries.not_there(connection, known[-1:])
        except queries.TakenError:
            return []
    return envelopes[len(known) :]
