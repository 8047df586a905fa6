"""Define the tables, and bring a database of an earlier version up to date. Each fleet has a database of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLES = sa.MetaData()

meta = sa.Table(
    "meta",
    TABLES,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""`version`: how many of `MIGRATIONS` the database has had."""

runs = sa.Table(
    "runs",
    TABLES,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("verb", sa.Text, nullable=False),
    sa.Column("made", sa.Double, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("plan", sa.Text),
    sa.Column("hosts", sa.Text, nullable=False),
)
"""What was known of each run when it began. `hosts` is a JSON list of names. Times are in seconds since 1970; 0 is
unknown."""

events = sa.Table(
    "events",
    TABLES,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("host", sa.Text),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("events_of_a_kind", "kind", "run", "seq"),
)
"""The events of each run. `body` is the event's own JSON, as `event_json` gives it."""

plans = sa.Table(
    "plans",
    TABLES,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("made", sa.Double, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)
"""Plans that can be applied later."""

MIGRATIONS: Sequence[Sequence[str]] = (
    (
        'CREATE TABLE meta ("key" TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)',
        "CREATE TABLE runs (id TEXT NOT NULL PRIMARY KEY, verb TEXT NOT NULL, made DOUBLE PRECISION NOT NULL,"
        ' "by" TEXT NOT NULL, plan TEXT, hosts TEXT NOT NULL)',
        "CREATE TABLE events (run TEXT NOT NULL, seq BIGINT NOT NULL, at DOUBLE PRECISION NOT NULL,"
        ' "by" TEXT NOT NULL, kind TEXT NOT NULL, host TEXT, body TEXT NOT NULL, PRIMARY KEY (run, seq))',
        "CREATE INDEX events_of_a_kind ON events (kind, run, seq)",
        "CREATE TABLE plans (digest TEXT NOT NULL PRIMARY KEY, text TEXT NOT NULL, made DOUBLE PRECISION NOT NULL,"
        " expires DOUBLE PRECISION NOT NULL)",
    ),
)
"""The statements that make each version of the tables from the one before. Only add to the end: databases have had the
others."""


class ForeignError(Exception):
    """The tables in the database are not fleet's."""


class NewerError(Exception):
    """A newer fleet has made the tables."""


def is_current(connection: sa.Connection) -> bool:
    """Whether the tables are those of this version. Raise `NewerError` or `ForeignError` if they cannot be used."""
    return _version(connection) == len(MIGRATIONS)


def migrate(connection: sa.Connection) -> None:
    """Bring the tables to this version, within the caller's transaction. Nobody else may migrate at the same time.

    Raise `NewerError` or `ForeignError`.
    """
    version = _version(connection)
    if version == len(MIGRATIONS):
        return
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.exec_driver_sql(statement)
    connection.execute(sa.delete(meta).where(meta.c.key == "version"))
    connection.execute(sa.insert(meta).values(key="version", value=str(len(MIGRATIONS))))


def _version(connection: sa.Connection) -> int:
    """Return how many migrations the database has had."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(meta.name):
        if inspector.get_table_names():
            raise ForeignError("it has tables, and none of them is fleet's")
        return 0
    found = connection.scalar(sa.select(meta.c.value).where(meta.c.key == "version"))
    if found is None or re.fullmatch("[0-9]{1,9}", found) is None:
        raise ForeignError("it does not say of which version it is")
    if int(found) > len(MIGRATIONS):
        raise NewerError(f"a newer fleet has made it (version {found}; this one knows {len(MIGRATIONS)})")
    return int(found)
