"""The queries to the database, in standard SQL with `:name` for values."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.events import DecodeError, Envelope, HostFinished, PushFinished, RunFinished, decode, event_json, event_name
from fleet.model import HostName, RunId
from fleet.state.interface import Asked, Delivery, PlanRecord, Request, SeenRecord
from fleet.state.records import FOLDED, RunRecord
from fleet.text import valid_unicode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fleet.state.database import Connection


class EventRow(NamedTuple):
    """An event as it is stored, without what can be read from its `body`."""

    run: str
    seq: int
    at: float
    by: str
    body: str


_EVENT = 'SELECT run, seq, at, "by", body FROM events'
"""Selects an `EventRow`."""
_FOLDED = ", ".join(f"'{event_name(kind)}'" for kind in FOLDED)


class TakenError(Exception):
    """Another process has written events of this run."""


def add_run(connection: Connection, record: RunRecord) -> bool:
    """Insert a run, from its record at its beginning, unless it is there. Returns whether it was inserted."""
    row = {
        "id": record.id,
        "verb": record.verb,
        "made": record.started or 0.0,
        "by": valid_unicode(record.by),
        "plan": record.plan,
        "hosts": json.dumps(list(record.hosts)),
    }
    statement = 'INSERT INTO runs (id, verb, made, "by", plan, hosts) VALUES (:id, :verb, :made, :by, :plan, :hosts)'
    return connection.execute(f"{statement} ON CONFLICT DO NOTHING", row).rowcount == 1


def has_run(connection: Connection, run: RunId) -> bool:
    """Whether the run has a row."""
    return connection.execute("SELECT 1 FROM runs WHERE id = :run", {"run": run}).fetchone() is not None


def last_number(connection: Connection, run: RunId) -> int | None:
    """Return the number of the run's last event, 0 if it has none; None if the run has no row."""
    last = "SELECT max(seq) FROM events WHERE events.run = runs.id"
    found = connection.execute(f"SELECT ({last}) FROM runs WHERE id = :run", {"run": run}).fetchone()
    return (found[0] or 0) if found is not None else None


def not_there(connection: Connection, envelopes: Sequence[Envelope]) -> Sequence[Envelope]:
    """Return these events of a run, which are in order, without those that are there already, as they are.

    Raise `TakenError` if there are others with their numbers.
    """
    rows = {row["seq"]: row["body"] for row in map(_event_row, envelopes)}
    there = event_rows(connection, envelopes[0].run, envelopes[0].seq - 1)
    if any(rows.get(row.seq) != row.body for row in there):
        raise TakenError
    return envelopes[len(there) :]


def has_ended(connection: Connection, run: RunId) -> bool:
    """Whether the end of the run was recorded."""
    values = {"run": run, "kind": event_name(RunFinished)}
    statement = "SELECT 1 FROM events WHERE run = :run AND kind = :kind"
    return connection.execute(statement, values).fetchone() is not None


def has_host_ended(connection: Connection, run: RunId, host: HostName) -> bool:
    """Whether the run has a result for the host."""
    values = {"run": run, "host": host, "kind": event_name(HostFinished)}
    statement = "SELECT 1 FROM events WHERE run = :run AND host = :host AND kind = :kind"
    return connection.execute(statement, values).fetchone() is not None


def run_ids(connection: Connection) -> set[RunId]:
    """Return the ids of all runs that have a row."""
    return {RunId(run) for (run,) in connection.execute("SELECT id FROM runs")}


def add_events(connection: Connection, envelopes: Iterable[Envelope]) -> None:
    """Insert the events. Raise the database's `IntegrityError` if one with the same run and number is there."""
    columns = 'run, seq, at, "by", kind, host, body'
    statement = f"INSERT INTO events ({columns}) VALUES (:run, :seq, :at, :by, :kind, :host, :body)"
    connection.executemany(statement, map(_event_row, envelopes))


def _event_row(envelope: Envelope) -> dict[str, Any]:
    body = event_json(envelope.event)
    return {
        "run": envelope.run,
        "seq": envelope.seq,
        "at": envelope.at,
        "by": valid_unicode(envelope.by),
        "kind": body["event"],
        "host": body.get("host"),
        "body": json.dumps(body),
    }


def records(connection: Connection, run: RunId | None = None) -> list[tuple[RunRecord, Sequence[EventRow]]]:
    """Return all runs, newest first, or one run.

    Each is a record without its events, and the rows of the events to fold into it.
    """
    last = "SELECT max(seq) FROM events WHERE events.run = runs.id"
    only_run, only_events = ("WHERE id = :run", "AND run = :run") if run is not None else ("", "")
    values = {"run": run} if run is not None else {}
    rows: dict[str, list[EventRow]] = {}
    for row in _event_rows(connection, f"WHERE kind IN ({_FOLDED}) {only_events} ORDER BY run, seq", values):
        rows.setdefault(row.run, []).append(row)
    found = connection.execute(f"SELECT id, plan, ({last}) FROM runs {only_run} ORDER BY id DESC", values)
    return [(RunRecord(id=RunId(id_), plan=plan, last_seq=seq or 0), rows.get(id_, [])) for id_, plan, seq in found]


def record_of_host(connection: Connection, run: RunId, host: HostName) -> list[EventRow]:
    """Return the rows of the events to fold into what is known of one host in one run, in order."""
    which = f"WHERE run = :run AND host = :host AND kind IN ({_FOLDED}) ORDER BY seq"
    return _event_rows(connection, which, {"run": run, "host": host})


def event_rows(connection: Connection, run: RunId, after: int) -> Sequence[EventRow]:
    """Return the rows of a run's events with numbers above `after`, in order."""
    return _event_rows(connection, "WHERE run = :run AND seq > :after ORDER BY seq", {"run": run, "after": after})


def pushes(connection: Connection) -> Sequence[EventRow]:
    """Return the rows of all pushes that ended, newest first."""
    kind = {"kind": event_name(PushFinished)}
    return _event_rows(connection, "WHERE kind = :kind ORDER BY run DESC, seq DESC", kind)


def _event_rows(connection: Connection, which: str, values: Mapping[str, Any]) -> list[EventRow]:
    return [EventRow(*row) for row in connection.execute(f"{_EVENT} {which}", values)]


def envelopes(rows: Iterable[EventRow]) -> Iterator[Envelope]:
    """Decode the events of these rows. Leaves out events that this version cannot read."""
    for row in rows:
        with contextlib.suppress(DecodeError):
            yield decode(row.body, run=row.run, seq=row.seq, at=row.at, by=row.by)


def set_request(connection: Connection, run: RunId, request: Request | None) -> None:
    """Let this be what is asked of the run; None for nothing."""
    connection.execute("DELETE FROM requests WHERE run = :run", {"run": run})
    if request is not None:
        row = {"run": run, "asked": request.asked.value, "by": valid_unicode(request.by), "at": request.at}
        connection.execute('INSERT INTO requests (run, asked, "by", at) VALUES (:run, :asked, :by, :at)', row)


def request(connection: Connection, run: RunId) -> Request | None:
    """Return what is asked of the run; None if nothing is, or what this version does not know."""
    found = connection.execute('SELECT asked, "by", at FROM requests WHERE run = :run', {"run": run}).fetchone()
    if found is None or found[0] not in set(Asked):
        return None
    return Request(Asked(found[0]), found[1], found[2])


def delete_run(connection: Connection, run: RunId) -> None:
    """Delete the run and its events."""
    connection.execute("DELETE FROM leases WHERE run = :run", {"run": run})
    connection.execute("DELETE FROM requests WHERE run = :run", {"run": run})
    connection.execute("DELETE FROM shares WHERE run = :run", {"run": run})
    connection.execute("DELETE FROM rollouts WHERE run = :run", {"run": run})
    connection.execute("DELETE FROM events WHERE run = :run", {"run": run})
    connection.execute("DELETE FROM runs WHERE id = :run", {"run": run})


def add_seen(connection: Connection, seen: Mapping[HostName, SeenRecord]) -> None:
    """Write what was seen of these hosts, in place of what was seen before."""
    connection.executemany(
        "INSERT INTO seen (host, at, body) VALUES (:host, :at, :body)"
        " ON CONFLICT (host) DO UPDATE SET at = excluded.at, body = excluded.body",
        [{"host": host, "at": record.at, "body": valid_unicode(record.body)} for host, record in seen.items()],
    )


def all_seen(connection: Connection) -> dict[HostName, SeenRecord]:
    """Return what was seen last of each host."""
    found = connection.execute("SELECT host, at, body FROM seen ORDER BY host")
    return {HostName(host): SeenRecord(at, body) for host, at, body in found}


def delete_seen(connection: Connection, hosts: Iterable[HostName]) -> None:
    """Forget these hosts."""
    connection.executemany("DELETE FROM seen WHERE host = :host", [{"host": host} for host in hosts])


def set_deliveries(connection: Connection, deliveries: Iterable[Delivery]) -> None:
    """Write what hosts should get, in place of what they should get before: it counts what each has missed."""
    columns = 'host, closure, derivation, run, "by", intent, made, expires, first, missed'
    values = ":host, :closure, :derivation, :run, :by, :intent, :made, :expires, :first, :missed"
    changed = ("closure", "derivation", "run", '"by"', "intent", "made", "expires")
    kept = ", ".join(f"{column} = excluded.{column}" for column in changed)
    # An expired one is over: what comes after it is the first again.
    again = "CASE WHEN deliveries.expires > excluded.made THEN {} ELSE {} END"
    connection.executemany(
        f"INSERT INTO deliveries ({columns}) VALUES ({values}) ON CONFLICT (host) DO UPDATE SET {kept},"
        f" first = {again.format('deliveries.first', 'excluded.first')},"
        f" missed = {again.format('deliveries.missed + 1', '1')}"
        " WHERE excluded.run >= deliveries.run",  # an earlier run may end later
        [
            vars(delivery) | {"by": valid_unicode(delivery.by), "intent": valid_unicode(delivery.intent)}
            for delivery in deliveries
        ],
    )


def deliveries(connection: Connection, now: float) -> list[Delivery]:
    """Return what hosts should get, without what has expired."""
    columns = 'host, closure, derivation, run, "by", intent, made, expires, first, missed'
    found = connection.execute(f"SELECT {columns} FROM deliveries WHERE expires > :now ORDER BY host", {"now": now})
    names = columns.replace('"', "").split(", ")
    return [Delivery(**dict(zip(names, row, strict=True))) for row in found]


def expired_deliveries(connection: Connection, now: float) -> list[HostName]:
    """Return the hosts that should have got something by now."""
    found = connection.execute("SELECT host FROM deliveries WHERE expires <= :now ORDER BY host", {"now": now})
    return [HostName(host) for (host,) in found]


def delete_expired_deliveries(connection: Connection, now: float) -> list[HostName]:
    """Delete what hosts should have got by now, and return those hosts."""
    hosts = expired_deliveries(connection, now)
    connection.execute("DELETE FROM deliveries WHERE expires <= :now", {"now": now})
    return hosts


def delete_deliveries(connection: Connection, hosts: Iterable[HostName], before: RunId) -> None:
    """Forget what these hosts should get since this run or an earlier one."""
    rows = [{"host": host, "run": before} for host in hosts]
    connection.executemany("DELETE FROM deliveries WHERE host = :host AND run <= :run", rows)


def add_plan(connection: Connection, record: PlanRecord, text: str) -> bool:
    """Insert the plan unless it is there. Returns whether it was inserted."""
    row = {"digest": record.digest, "text": text, "made": record.made, "expires": record.expires}
    columns = "digest, text, made, expires"
    statement = f"INSERT INTO plans ({columns}) VALUES (:digest, :text, :made, :expires) ON CONFLICT DO NOTHING"
    return connection.execute(statement, row).rowcount == 1


def all_plans(connection: Connection) -> list[PlanRecord]:
    """Return every plan that is kept, newest first."""
    found = connection.execute("SELECT digest, made, expires FROM plans ORDER BY made DESC, digest")
    return [PlanRecord(*row) for row in found]


def plan_texts(connection: Connection, prefix: str) -> dict[str, str]:
    """Return the texts of the plans whose digests begin with `prefix`, by digest."""
    statement = "SELECT digest, text FROM plans WHERE substr(digest, 1, :length) = :prefix"
    return dict(connection.execute(statement, {"length": len(prefix), "prefix": prefix}))


def delete_expired_plans(connection: Connection, now: float) -> list[str]:
    """Delete the plans that have expired and that no run applies, and return their digests."""
    is_over = "expires <= :now AND digest NOT IN (SELECT plan FROM runs WHERE plan IS NOT NULL)"
    found = connection.execute(f"SELECT digest FROM plans WHERE {is_over} ORDER BY digest", {"now": now})
    digests = [digest for (digest,) in found]
    connection.execute(f"DELETE FROM plans WHERE {is_over}", {"now": now})
    return digests
