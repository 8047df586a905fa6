"""Remember what happened in a fleet: its runs with their events, its plans, and which runs are under way.

`open_state` returns a `State`, whose methods are the only way in. `fold` computes from its events what became of a run,
both while it goes on and afterwards. The state is kept in a SQLite database and a folder for each run: `sqlite.py` has
what is particular to SQLite, and `locks.py` locks runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.state.folders import EVENTS
from fleet.state.hosts import Hosts
from fleet.state.interface import (
    Asked,
    BaselineRecord,
    Delivery,
    PlanRecord,
    Recorder,
    Request,
    SeenRecord,
    State,
    Tidied,
)
from fleet.state.ledgers import Entered
from fleet.state.records import HostRecord, RunRecord, fold, fold_all
from fleet.state.tidy import KEEP

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "EVENTS",
    "KEEP",
    "Asked",
    "BaselineRecord",
    "Delivery",
    "Entered",
    "HostRecord",
    "Hosts",
    "PlanRecord",
    "Recorder",
    "Request",
    "RunRecord",
    "SeenRecord",
    "State",
    "Tidied",
    "fold",
    "fold_all",
    "open_state",
]


def open_state(folder: Path) -> State:
    """Return the state in this folder, the `fleet.files.state_folder` of a fleet. Reads and makes nothing yet."""
    from fleet.state.store import FolderState

    return FolderState(folder)
