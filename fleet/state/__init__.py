"""Remember what happened in a fleet: its runs with their events, its plans, and which runs are under way.

`open_state` returns a `State`, whose methods are the only way in. `fold` computes from its events what became of a run,
both while it goes on and afterwards. The state is kept in a database and a folder for each run: `sqlite.py` has what is
particular to SQLite and `postgres.py` what is particular to PostgreSQL; `locks.py` locks runs on this machine, and
`leases.py` among machines that share a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import StateError
from fleet.state.entered import Entered
from fleet.state.folders import EVENTS
from fleet.state.hosts import Hosts
from fleet.state.interface import (
    Asked,
    BaselineRecord,
    Delivery,
    JointRecord,
    PlanRecord,
    Recorder,
    Request,
    SeenRecord,
    State,
    Tidied,
)
from fleet.state.records import HostRecord, RunRecord, fold, fold_all
from fleet.state.tidy import KEEP

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.model import DatabaseAddress
    from fleet.state.database import Database

__all__ = [
    "EVENTS",
    "KEEP",
    "Asked",
    "BaselineRecord",
    "Delivery",
    "Entered",
    "HostRecord",
    "Hosts",
    "JointRecord",
    "PlanRecord",
    "Recorder",
    "Request",
    "RunRecord",
    "SeenRecord",
    "State",
    "Tidied",
    "fold",
    "fold_all",
    "open_database",
    "open_state",
]


def open_state(folder: Path, address: DatabaseAddress | None = None) -> State:
    """Return the state in this folder, the `fleet.files.state_folder` of a fleet. Reads and makes nothing yet.

    With an address its database is there, and the folder has only what is this machine's own.
    """
    from fleet.state.leases import Leases
    from fleet.state.store import FolderState

    database = open_database(folder, address)
    return FolderState(folder, database, Leases(database) if database.is_shared else None)


def open_database(folder: Path, address: DatabaseAddress | None) -> Database:
    """Return the database of the state in this folder, or at the address. Reads and makes nothing yet."""
    if address is None:
        from fleet.state.sqlite import SqliteDatabase

        return SqliteDatabase(folder / "state.db")
    try:
        from fleet.state.postgres import PostgresDatabase
    except ImportError as missing:
        from fleet.state.database import NoDatabase

        why = f"[fleet] state names a PostgreSQL database, and psycopg cannot be imported: {missing}"
        return NoDatabase(StateError(why, hint="pip install 'fleet[scale]'"))
    return PostgresDatabase(address, folder.name)
