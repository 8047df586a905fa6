"""Bring what this machine has remembered in its own file to a database that machines share."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fleet.errors import ConfigError, StateError
from fleet.state import open_database, open_state
from fleet.state.folders import Folders

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fleet.model import DatabaseAddress
    from fleet.state.database import Connection

TABLES: Mapping[str, tuple[str, ...]] = {
    "runs": ("id", "verb", "made", "by", "plan", "hosts"),
    "events": ("run", "seq", "at", "by", "kind", "host", "body"),
    "plans": ("digest", "text", "made", "expires"),
    "requests": ("run", "asked", "by", "at"),
    "seen": ("host", "at", "body"),
    "deliveries": (
        "host", "closure", "derivation", "run", "by", "intent", "made", "expires", "first", "missed",
    ),
    "baselines": ("host", "at", "by", "body"),
    "ledger": ("entry", "line"),
}  # fmt: skip
"""What is brought, with all columns of each. Leases and what workers do are not: nobody holds a run
then."""
MOVED = "state.db.moved"
"""What the file is called afterwards."""


def import_state(folder: Path, address: DatabaseAddress) -> dict[str, int]:
    """Copy everything from the file in this folder to the database, and return how many rows each table has got.

    The file is renamed then, so that nobody goes on with it. The ledger goes on in the database where it was. Raise
    `ConfigError` if there is no file, if a run is under way here, or if the database remembers something of this fleet
    already; and `StateError`. Nothing is copied then.
    """
    file = folder / "state.db"
    old, new = open_database(folder, None), open_database(folder, address)
    if not old.exists:
        raise ConfigError(f"{file}: there is no such file: this machine has remembered nothing by itself")
    open_state(folder).runs()  # reads in what is in folders only
    folders, copied = Folders(folder), dict[str, int]()
    with contextlib.ExitStack() as stack:
        for run in folders.all():
            if not stack.enter_context(folders.owned(run)):
                raise ConfigError(f"run {run} is under way on this machine", hint="do this again when it has ended")
        with old.reading() as source, new.writing() as target:
            if any(target.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in TABLES):
                hint = "each fleet has one state; drop the schema first if what is there is worth nothing"
                raise ConfigError(f"{address} remembers something of this fleet already", hint=hint)
            for table, columns in TABLES.items():
                copied[table] = _copy(source, target, table, columns)
            _copy_head(source, target)
        try:
            file.rename(folder / MOVED)
        except OSError as error:
            why = f"everything is in {address}, and {file} cannot be renamed: {error.strerror}"
            raise StateError(why, hint=f"rename it to {MOVED}") from error
    return copied


def _copy(source: Connection, target: Connection, table: str, columns: tuple[str, ...]) -> int:
    named = ", ".join(f'"{column}"' for column in columns)
    rows = (dict(zip(columns, row, strict=True)) for row in source.execute(f"SELECT {named} FROM {table}"))
    marks = ", ".join(f":{column}" for column in columns)
    target.executemany(f"INSERT INTO {table} ({named}) VALUES ({marks})", rows)
    (copied,) = target.execute(f"SELECT count(*) FROM {table}").fetchone() or (0,)
    return int(copied)


def _copy_head(source: Connection, target: Connection) -> None:
    """Copy the note of the ledger's head."""
    for (head,) in source.execute("SELECT value FROM meta WHERE \"key\" = 'ledger'"):
        target.execute("INSERT INTO meta (\"key\", value) VALUES ('ledger', :head)", {"head": head})
