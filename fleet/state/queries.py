"""The queries to the database, in standard SQL."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from fleet.events import DecodeError, Envelope, PushFinished, decode, event_json, event_name
from fleet.model import RunId
from fleet.state import schema
from fleet.state.interface import PlanRecord
from fleet.state.records import FOLDED, RunRecord
from fleet.text import valid_unicode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Row = sa.Row[*tuple[Any, ...]]
    Rows = Sequence[Row]

_FOLDED = [event_name(kind) for kind in FOLDED]
_runs, _events, _plans = schema.runs, schema.events, schema.plans


def run_row(record: RunRecord) -> dict[str, Any]:
    """Return the row of a run, from its record at the beginning of the run."""
    return {
        "id": record.id,
        "verb": record.verb,
        "made": record.started or 0.0,
        "by": valid_unicode(record.by),
        "plan": record.plan,
        "hosts": json.dumps(list(record.hosts)),
    }


def has_run(connection: sa.Connection, run: RunId) -> bool:
    """Whether the run has a row."""
    return connection.scalar(sa.select(_runs.c.id).where(_runs.c.id == run)) is not None


def run_ids(connection: sa.Connection) -> set[RunId]:
    """Return the ids of all runs that have a row."""
    return set(map(RunId, connection.scalars(sa.select(_runs.c.id))))


def add_events(connection: sa.Connection, envelopes: Iterable[Envelope]) -> None:
    """Insert the events. Raise `IntegrityError` if one with the same run and number is there."""
    rows = [_event_row(envelope) for envelope in envelopes]
    if rows:
        connection.execute(sa.insert(_events), rows)


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


def records(connection: sa.Connection, run: RunId | None = None) -> list[tuple[RunRecord, Rows]]:
    """Return all runs, newest first, or one run.

    Each is a record without its events, and the rows of the events to fold into it.
    """
    last = sa.select(sa.func.max(_events.c.seq)).where(_events.c.run == _runs.c.id).scalar_subquery()
    select_runs = sa.select(_runs.c.id, _runs.c.plan, last.label("last")).order_by(_runs.c.id.desc())
    select_folded = _select_events().where(_events.c.kind.in_(_FOLDED))
    if run is not None:
        select_runs = select_runs.where(_runs.c.id == run)
        select_folded = select_folded.where(_events.c.run == run)
    rows: dict[str, list[Row]] = {}
    for row in connection.execute(select_folded):
        rows.setdefault(row.run, []).append(row)
    return [
        (RunRecord(id=RunId(row.id), plan=row.plan, last_seq=row.last or 0), rows.get(row.id, []))
        for row in connection.execute(select_runs)
    ]


def event_rows(connection: sa.Connection, run: RunId, after: int) -> Rows:
    """Return the rows of a run's events with numbers above `after`, in order."""
    return connection.execute(_select_events().where(_events.c.run == run, _events.c.seq > after)).all()


def _select_events() -> sa.Select[Any]:
    columns = (_events.c.run, _events.c.seq, _events.c.at, _events.c.by, _events.c.body)
    return sa.select(*columns).order_by(_events.c.run, _events.c.seq)


def envelopes(rows: Rows) -> Iterator[Envelope]:
    """Decode the events of these rows. Leaves out events that this version cannot read."""
    for row in rows:
        with contextlib.suppress(DecodeError):
            yield decode(row.body, run=row.run, seq=row.seq, at=row.at, by=row.by)


def pushes(connection: sa.Connection) -> Rows:
    """Return the rows of all pushes that ended, newest first."""
    order = (_events.c.run.desc(), _events.c.seq.desc())
    columns = (_events.c.run, _events.c.seq, _events.c.at, _events.c.by, _events.c.host, _events.c.body)
    kind = event_name(PushFinished)
    return connection.execute(sa.select(*columns).where(_events.c.kind == kind).order_by(*order)).all()


def delete_run(connection: sa.Connection, run: RunId) -> None:
    """Delete the run and its events."""
    connection.execute(sa.delete(_events).where(_events.c.run == run))
    connection.execute(sa.delete(_runs).where(_runs.c.id == run))


def all_plans(connection: sa.Connection) -> list[PlanRecord]:
    """Return every plan that is kept, newest first."""
    columns = (_plans.c.digest, _plans.c.made, _plans.c.expires)
    order = (_plans.c.made.desc(), _plans.c.digest)
    return [PlanRecord(*row) for row in connection.execute(sa.select(*columns).order_by(*order))]


def plan_texts(connection: sa.Connection, prefix: str) -> dict[str, str]:
    """Return the texts of the plans whose digests begin with `prefix`, by digest."""
    begins = sa.func.substr(_plans.c.digest, 1, len(prefix)) == prefix
    return {row.digest: row.text for row in connection.execute(sa.select(_plans.c.digest, _plans.c.text).where(begins))}


def delete_expired_plans(connection: sa.Connection, now: float) -> list[str]:
    """Delete the plans that have expired and that no run applies, and return their digests."""
    applied = sa.select(_runs.c.plan).where(_runs.c.plan.is_not(None))
    is_over = sa.and_(_plans.c.expires <= now, _plans.c.digest.not_in(applied))
    found = list(connection.scalars(sa.select(_plans.c.digest).where(is_over).order_by(_plans.c.digest)))
    connection.execute(sa.delete(_plans).where(is_over))
    return found
