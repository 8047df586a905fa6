"""The queries about what was there on hosts at their first commit, or was accepted since."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.state.interface import BaselineRecord
from fleet.text import valid_unicode

if TYPE_CHECKING:
    from fleet.model import HostName
    from fleet.state.database import Connection


def has(connection: Connection, host: HostName) -> bool:
    """Whether something is remembered of the host."""
    return connection.execute("SELECT 1 FROM baselines WHERE host = :host", {"host": host}).fetchone() is not None


def read(connection: Connection, host: HostName) -> BaselineRecord | None:
    """Return what is remembered of the host; None if nothing is."""
    found = connection.execute('SELECT at, "by", body FROM baselines WHERE host = :host', {"host": host}).fetchone()
    return BaselineRecord(*found) if found is not None else None


def write(connection: Connection, host: HostName, record: BaselineRecord) -> None:
    """Remember this of the host, in place of what was remembered before."""
    connection.execute(
        'INSERT INTO baselines (host, at, "by", body) VALUES (:host, :at, :by, :body)'
        ' ON CONFLICT (host) DO UPDATE SET at = excluded.at, "by" = excluded."by", body = excluded.body',
        {"host": host, "at": record.at, "by": valid_unicode(record.by), "body": valid_unicode(record.body)},
    )
