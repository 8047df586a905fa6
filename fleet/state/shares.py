"""The rows of what workers do together: rollouts, the share of each host, and who lives."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleet.model import HostName, Outcome, RunId
from fleet.state import clock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from fleet.state.database import Connection


class Step(enum.StrEnum):
    """What a worker does at a host."""

    DELIVER = "deliver"
    """Take it through its part of the plan."""
    SOAK = "soak"
    """Watch it after its wave."""


class ShareState(enum.StrEnum):
    """How far the share of a host has come."""

    WAITING = "waiting"
    """Its turn has not come."""
    QUEUED = "queued"
    """Any worker of its site may take it."""
    DOING = "doing"
    """A worker has taken it."""
    ENDED = "ended"
    """It has a result."""


class RolloutState(enum.StrEnum):
    """How far a rollout has come."""

    OPEN = "open"
    ENDING = "ending"
    """Every host has a result, and the end of the run is still to be told."""
    ENDED = "ended"
    TAKEN = "taken"
    """A process has taken it from the workers, which have nothing to do with it any more."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A run that workers carry out."""

    run: RunId
    plan: str
    """The digest of its plan."""
    signatures: str
    """The signatures of the plan, as text; empty if there are none."""
    by: str
    origin: str
    state: RolloutState = RolloutState.OPEN
    worker: str = ""
    """Who tells its end."""
    wave: int = 0
    """The wave that is under way; 0 before the first."""
    is_between: bool = True
    """Whether the end of that wave was told, and no other has begun."""
    soaking: bool = False
    """Whether its hosts are watched."""
    soaked: frozenset[int] = frozenset()
    places: int
    """How many hosts may be under way at a time."""
    bad: int = 0
    """How many hosts have ended badly."""
    asked: str = ""
    """What was asked of it when that was told last."""
    wait: float = 0.0
    """Seconds that each host waits for its turn at most, where others are at work."""
    why: str = ""
    """Why no further host may begin. Empty if nobody has interrupted it."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a run does at one host."""

    host: HostName
    wave: int
    place: int
    """Its place within the wave."""
    site: str
    step: Step = Step.DELIVER
    state: ShareState = ShareState.WAITING
    worker: str = ""
    attempt: int = 0
    """How often a worker has taken it. After the first, one was lost meanwhile."""
    outcome: str = ""
    said: str = ""
    """What was wrong with it when it was watched."""


_ROLLOUT = 'run, plan, signatures, "by", origin, state, worker, wave, phase, soaked, places, bad, asked, wait, why'
_SHARE = "host, wave, place, site, step, state, worker, attempt, outcome, said"


def add_rollout(connection: Connection, rollout: Rollout, shares: Iterable[Share]) -> None:
    """Insert a rollout with the shares of its hosts."""
    marks = _ROLLOUT.replace('"by"', "by").replace(", ", ", :")
    connection.execute(f"INSERT INTO rollouts ({_ROLLOUT}) VALUES (:{marks})", _values(rollout))
    marks = _SHARE.replace(", ", ", :")
    rows = [{**vars(share), "run": rollout.run} for share in shares]
    connection.executemany(f"INSERT INTO shares (run, {_SHARE}) VALUES (:run, :{marks})", rows)


def _values(rollout: Rollout) -> dict[str, Any]:
    phase = "soak" if rollout.soaking else "between" if rollout.is_between else "wave"
    return {**vars(rollout), "soaked": json.dumps(sorted(rollout.soaked)), "phase": phase}


def rollout(connection: Connection, run: RunId, *, locks: bool = False) -> Rollout | None:
    """Return a rollout; None if workers do not carry the run out. With `locks` nobody else changes it meanwhile."""
    statement = f"SELECT {_ROLLOUT} FROM rollouts WHERE run = :run {'FOR UPDATE' if locks else ''}"
    row = connection.execute(statement, {"run": run}).fetchone()
    if row is None:
        return None
    names = [name.strip('"') for name in _ROLLOUT.split(", ")]
    values = dict(zip(names, row, strict=True))
    phase, soaked = values.pop("phase"), frozenset(map(int, json.loads(values.pop("soaked"))))
    state = RolloutState(values.pop("state"))
    return Rollout(
        **values, state=state, soaked=soaked, soaking=phase == "soak", is_between=phase in ("soak", "between")
    )


def set_rollout(connection: Connection, rollout: Rollout) -> None:
    """Write how far a rollout has come."""
    changed = ("state", "worker", "wave", "phase", "soaked", "bad", "asked", "why")
    sets = ", ".join(f"{name} = :{name}" for name in changed)
    connection.execute(f"UPDATE rollouts SET {sets} WHERE run = :run", _values(rollout))


def runs_in(connection: Connection, *states: RolloutState) -> dict[RunId, RolloutState]:
    """Return the runs of rollouts in one of these states."""
    named = ", ".join(f"'{state}'" for state in states)
    found = connection.execute(f"SELECT run, state FROM rollouts WHERE state IN ({named}) ORDER BY run")
    return {RunId(run): RolloutState(state) for run, state in found}


def close(connection: Connection, run: RunId, state: RolloutState) -> None:
    """Let workers have nothing to do with a run any more, unless they have brought it to its end."""
    values = {"run": run, "state": state}
    connection.execute("UPDATE rollouts SET state = :state WHERE run = :run AND state IN ('open', 'ending')", values)


def unheard(connection: Connection) -> set[RunId]:
    """Return the runs of which something else is asked now than when that was told last."""
    found = connection.execute(
        "SELECT rollouts.run FROM rollouts LEFT JOIN requests ON requests.run = rollouts.run"
        " WHERE rollouts.state = 'open' AND rollouts.asked <> COALESCE(requests.asked, '')"
    )
    return {RunId(run) for (run,) in found}


def share(connection: Connection, run: RunId, host: HostName) -> Share | None:
    """Return the share of a host; None if there is none."""
    found = connection.execute(
        f"SELECT {_SHARE} FROM shares WHERE run = :run AND host = :host", {"run": run, "host": host}
    )
    row = found.fetchone()
    return _share(row) if row is not None else None


def _share(row: tuple[Any, ...]) -> Share:
    values = dict(zip(_SHARE.split(", "), row, strict=True))
    return Share(**{**values, "step": Step(values["step"]), "state": ShareState(values["state"])})


def set_share(connection: Connection, run: RunId, share: Share) -> None:
    """Write how far the share of a host has come."""
    changed = ("step", "state", "worker", "attempt", "outcome", "said")
    sets = ", ".join(f"{name} = :{name}" for name in changed)
    connection.execute(f"UPDATE shares SET {sets} WHERE run = :run AND host = :host", {**vars(share), "run": run})


def shares(connection: Connection, run: RunId, *states: ShareState, wave: int = 0, most: int = 0) -> list[Share]:
    """Return shares of a run in these states, in their order: of one wave if it is given, and `most` if that is."""
    named = ", ".join(f"'{state}'" for state in states)
    which = f"WHERE run = :run AND state IN ({named}) {'AND wave = :wave' if wave else ''} ORDER BY wave, place"
    limit = f"LIMIT {most}" if most else ""
    rows = connection.execute(f"SELECT {_SHARE} FROM shares {which} {limit}", {"run": run, "wave": wave})
    return [_share(row) for row in rows]


def count(connection: Connection, run: RunId, *states: ShareState) -> int:
    """Return how many shares of a run are in one of these states."""
    named = ", ".join(f"'{state}'" for state in states)
    found = connection.execute(f"SELECT count(*) FROM shares WHERE run = :run AND state IN ({named})", {"run": run})
    return int(found.fetchone()[0])


def outcomes(connection: Connection, run: RunId, since: int, until: int) -> dict[HostName, Outcome | None]:
    """Return the hosts of these waves, each with its outcome; None if it has none."""
    found = connection.execute(
        "SELECT host, outcome FROM shares WHERE run = :run AND wave BETWEEN :since AND :until",
        {"run": run, "since": since, "until": until},
    )
    return {HostName(host): Outcome(outcome) if outcome else None for host, outcome in found}


def owned(connection: Connection, run: RunId, worker: str, hosts: Collection[HostName]) -> set[HostName]:
    """Return those of the hosts that this worker has taken, and that nobody has taken from it."""
    if not hosts:
        return set()
    found = connection.execute(
        "SELECT host FROM shares WHERE worker = :worker AND state = 'doing' AND run = :run",
        {"run": run, "worker": worker},
    )
    return {HostName(host) for (host,) in found if host in hosts}


def taken_by(connection: Connection, worker: str) -> set[tuple[RunId, HostName]]:
    """Return the shares that a worker has taken, each as its run and its host."""
    statement = "SELECT run, host FROM shares WHERE worker = :worker AND state = 'doing'"
    return {(RunId(run), HostName(host)) for run, host in connection.execute(statement, {"worker": worker})}


def lost(connection: Connection) -> list[tuple[RunId, Share]]:
    """Return the shares that workers have taken which are not heard of any more."""
    living = f"SELECT name FROM workers WHERE {clock.LIVES}"
    found = connection.execute(f"SELECT run, {_SHARE} FROM shares WHERE state = 'doing' AND worker NOT IN ({living})")
    return [(RunId(row[0]), _share(row[1:])) for row in found]
