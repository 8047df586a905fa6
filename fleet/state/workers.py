"""The rows of the workers of a fleet: who lives, for which site, and what each does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.model import HostName, RunId
from fleet.state import clock, shares
from fleet.state.shares import RolloutState, Step

if TYPE_CHECKING:
    from fleet.state.database import Connection


@dataclass(frozen=True, kw_only=True)
class WorkerRecord:
    """A worker that lives, or that was to be heard of and was not."""

    name: str
    site: str
    origin: str
    """The name of its machine."""
    process: int
    places: int
    """How many hosts it has under way at most."""
    is_leaving: bool = False
    """Whether it takes nothing new."""
    since: float = 0.0
    """Seconds since 1970, by the database's clock."""
    lives: bool = True
    doing: tuple[tuple[RunId, HostName, Step], ...] = ()


def put(connection: Connection, worker: WorkerRecord) -> None:
    """Say that a worker lives, from now on for a while."""
    values = {**vars(worker), "state": "leaving" if worker.is_leaving else "working"}
    connection.execute(
        "INSERT INTO workers (name, site, origin, process, places, state, since, ends)"
        f" VALUES (:name, :site, :origin, :process, :places, :state, {clock.NOW},"
        f" {clock.NOW} + {clock.LASTS})"
        " ON CONFLICT (name) DO UPDATE SET state = excluded.state, ends = excluded.ends",
        values,
    )


def delete(connection: Connection, name: str) -> None:
    """Forget a worker."""
    connection.execute("DELETE FROM workers WHERE name = :name", {"name": name})


def every(connection: Connection) -> list[WorkerRecord]:
    """Return the workers that live, and those that were lost and not forgotten yet, by site and name."""
    doing: dict[str, list[tuple[RunId, HostName, Step]]] = {}
    taken = connection.execute("SELECT worker, run, host, step FROM shares WHERE state = 'doing' ORDER BY run, host")
    for worker, run, host, step in taken:
        doing.setdefault(worker, []).append((RunId(run), HostName(host), Step(step)))
    found = connection.execute(
        f"SELECT name, site, origin, process, places, state, since, {clock.LIVES} FROM workers ORDER BY site, name"
    )
    return [
        WorkerRecord(
            name=name, site=site, origin=origin, process=process, places=places,
            is_leaving=state == "leaving", since=since, lives=lives, doing=tuple(doing.get(name, ())),
        )
        for name, site, origin, process, places, state, since, lives in found
    ]  # fmt: skip


def forget_lost(connection: Connection) -> None:
    """Forget workers that were not heard of for an hour and have nothing."""
    connection.execute(
        f"DELETE FROM workers WHERE ends + 3600 < {clock.NOW}"
        " AND NOT EXISTS (SELECT 1 FROM shares WHERE shares.worker = workers.name AND shares.state = 'doing')"
    )


def has_living(connection: Connection) -> bool:
    """Whether any worker lives."""
    return connection.execute(f"SELECT 1 FROM workers WHERE {clock.LIVES}").fetchone() is not None


def living_sites(connection: Connection) -> set[str]:
    """Return the sites that a worker lives for which takes something new."""
    found = connection.execute(f"SELECT site FROM workers WHERE state = 'working' AND {clock.LIVES}")
    return {site for (site,) in found}


def under_way(connection: Connection) -> set[RunId]:
    """Return the runs that workers carry out, if any worker lives."""
    return set(shares.runs_in(connection, RolloutState.OPEN, RolloutState.ENDING)) if has_living(connection) else set()
