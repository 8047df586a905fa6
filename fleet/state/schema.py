"""Define the tables, and bring a database of an earlier version up to date. Each fleet has a database of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from fleet.state.database import Connection

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
    (
        'CREATE TABLE requests (run TEXT NOT NULL PRIMARY KEY, asked TEXT NOT NULL, "by" TEXT NOT NULL,'
        " at DOUBLE PRECISION NOT NULL)",
    ),
    ("CREATE TABLE seen (host TEXT NOT NULL PRIMARY KEY, at DOUBLE PRECISION NOT NULL, body TEXT NOT NULL)",),
    (
        "CREATE TABLE deliveries (host TEXT NOT NULL PRIMARY KEY, closure TEXT NOT NULL, derivation TEXT,"
        ' run TEXT NOT NULL, "by" TEXT NOT NULL, intent TEXT NOT NULL, made DOUBLE PRECISION NOT NULL,'
        " expires DOUBLE PRECISION NOT NULL, first DOUBLE PRECISION NOT NULL, missed BIGINT NOT NULL)",
    ),
    (
        'CREATE TABLE baselines (host TEXT NOT NULL PRIMARY KEY, at DOUBLE PRECISION NOT NULL, "by" TEXT NOT NULL,'
        " body TEXT NOT NULL)",
    ),
    ("CREATE TABLE ledger (entry BIGINT NOT NULL PRIMARY KEY, line TEXT NOT NULL)",),
    (
        "CREATE TABLE leases (run TEXT NOT NULL PRIMARY KEY, token TEXT NOT NULL, origin TEXT NOT NULL,"
        " process BIGINT NOT NULL, ends DOUBLE PRECISION NOT NULL)",
        "CREATE INDEX events_of_a_host ON events (run, host, kind)",
    ),
    (
        "CREATE TABLE rollouts (run TEXT NOT NULL PRIMARY KEY, plan TEXT NOT NULL, signatures TEXT NOT NULL,"
        ' "by" TEXT NOT NULL, origin TEXT NOT NULL, state TEXT NOT NULL, worker TEXT NOT NULL, wave BIGINT NOT NULL,'
        " phase TEXT NOT NULL, soaked TEXT NOT NULL, places BIGINT NOT NULL, bad BIGINT NOT NULL, asked TEXT NOT NULL,"
        " wait DOUBLE PRECISION NOT NULL,"
        " why TEXT NOT NULL)",
        "CREATE TABLE shares (run TEXT NOT NULL, host TEXT NOT NULL, wave BIGINT NOT NULL, place BIGINT NOT NULL,"
        " site TEXT NOT NULL, step TEXT NOT NULL, state TEXT NOT NULL, worker TEXT NOT NULL, attempt BIGINT NOT NULL,"
        " outcome TEXT NOT NULL, said TEXT NOT NULL, PRIMARY KEY (run, host))",
        "CREATE INDEX shares_in_a_state ON shares (run, state, wave, place)",
        "CREATE INDEX shares_of_a_worker ON shares (worker, state)",
        "CREATE TABLE workers (name TEXT NOT NULL PRIMARY KEY, site TEXT NOT NULL, origin TEXT NOT NULL,"
        " process BIGINT NOT NULL, places BIGINT NOT NULL, state TEXT NOT NULL,"
        " since DOUBLE PRECISION NOT NULL, ends DOUBLE PRECISION NOT NULL)",
    ),
)
"""The statements that make each version of the tables from the one before. Only add to the end: databases have had the
others.

`meta` has the key `version`: how many of these the database has had. `runs` has what was known of each run when it
began, with `hosts` as a JSON list of names. `events` has `body`, the event's own JSON as `event_json` gives it. `plans`
has those that can be applied later. `requests` has what somebody asks of a rollout that is under way. `seen` has what
each host was when it last answered, as JSON in `body`. `deliveries` has what hosts get that were away. `baselines` has
what is no drift on a host though nothing declares it, as JSON in `body`. `ledger` has a line for
each entry of the ledger, and `meta` its head under `ledger`. `leases` has which process of which machine holds a run,
and until when by the database's clock, where machines share the database. `rollouts` has the runs that workers carry
out, and how far each has come; `shares` what of it concerns one host, and `workers` who lives, until when by the
database's clock; `meta` the version of procrastinate that made the queue, under `queue`. Times are in seconds since
1970; 0 is unknown.
"""


class ForeignError(Exception):
    """The tables in the database are not fleet's."""


class NewerError(Exception):
    """A newer fleet has made the tables."""


def is_current(connection: Connection, tables: Collection[str]) -> bool:
    """Whether these tables are those of this version. Raise `NewerError` or `ForeignError` if they cannot be used."""
    return _version(connection, tables) == len(MIGRATIONS)


def migrate(connection: Connection, tables: Collection[str]) -> None:
    """Bring these tables to this version, within the caller's transaction. Nobody else may migrate at the same time.

    Raise `NewerError` or `ForeignError`.
    """
    version = _version(connection, tables)
    if version == len(MIGRATIONS):
        return
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute("DELETE FROM meta WHERE \"key\" = 'version'")
    connection.execute(
        "INSERT INTO meta (\"key\", value) VALUES ('version', :version)", {"version": str(len(MIGRATIONS))}
    )


def _version(connection: Connection, tables: Collection[str]) -> int:
    """Return how many migrations the database has had."""
    if "meta" not in tables:
        if tables:
            raise ForeignError("it has tables, and none of them is fleet's")
        return 0
    found = connection.execute("SELECT value FROM meta WHERE \"key\" = 'version'").fetchone()
    if found is None or re.fullmatch("[0-9]{1,9}", found[0]) is None:
        raise ForeignError("it does not say of which version it is")
    if int(found[0]) > len(MIGRATIONS):
        raise NewerError(f"a newer fleet has made it (version {found[0]}; this one knows {len(MIGRATIONS)})")
    return int(found[0])
