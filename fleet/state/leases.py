"""Leases on runs in a database that several machines share, so that each sees which runs are under way elsewhere.

A lease ends a while after its holder was heard last, by the database's clock: clocks of machines differ. On one machine
the lock of the run's folder says more, and at once.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
from typing import TYPE_CHECKING

from fleet.errors import ConfigError, StateError
from fleet.files import read_file, replace_file
from fleet.state import clock, shares, workers
from fleet.state.shares import RolloutState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fleet.model import RunId
    from fleet.state.database import Connection, Database

RENEWED = 10.0
"""Seconds after which it is renewed."""
AGAIN = 2.0
"""Seconds after which it is tried again to renew it."""
PATIENCE = 2.0
"""Seconds to wait for the database, at most. A run that goes back must not wait for it, and is safe without a lease:
hosts let nobody begin beside it."""
TOKEN = "lease"
"""The file in the folder of a run that has the token of the lease that this machine took last. Whoever has the lock of
the folder knows by it that the lease's holder is gone."""


class Leases:
    """The leases of one fleet."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextlib.contextmanager
    def held(self, run: RunId, folder: Path, *, is_new: bool) -> Iterator[None]:
        """Hold a lease on the run, while inside, as far as the database can be reached. `folder` is locked.

        Nobody waits for the database if the run `is_new`. Raise `ConfigError` if another machine holds it.
        """
        holding = _Holding(self._database, run, folder, is_new=is_new)
        holding.start()
        if not is_new:
            holding.is_answered.wait(PATIENCE)
        try:
            if holding.other:
                hint = "it ends by itself; Ctrl-C there ends it sooner"
                raise ConfigError(f"run {run} is still under way on {holding.other}", hint=hint)
            yield
        finally:
            holding.let_go()

    def living(self, folders: Mapping[RunId, Path]) -> set[RunId]:
        """Return which runs another machine holds, or workers carry out, of those whose folders here are not locked.

        Raise `StateError`.
        """
        with self._database.reading() as connection:
            found = connection.execute(f"SELECT run, token FROM leases WHERE {clock.LIVES}")
            held = {run for run, token in found if run in folders and token != _token(folders[run])}
            return held | (workers.under_way(connection) & set(folders))


class _Holding(threading.Thread):
    """Takes a lease, renews it until it is let go, and gives it back."""

    def __init__(self, database: Database, run: RunId, folder: Path, *, is_new: bool) -> None:
        super().__init__(name="fleet-lease", daemon=True)
        self._database = database
        self._run = run
        self._is_new = is_new
        self._before = _token(folder)
        self._mine = secrets.token_hex(16)
        with contextlib.suppress(OSError):
            replace_file(folder / TOKEN, self._mine.encode())
        self._is_over = threading.Event()
        self.is_answered = threading.Event()
        """Whether the database has answered."""
        self.other = ""
        """The machine that holds the lease, if this one does not."""

    def let_go(self) -> None:
        """Give the lease back, if the database can be reached soon. Otherwise it ends by itself."""
        self._is_over.set()
        self.join(PATIENCE)

    def run(self) -> None:
        """Do all of it."""
        while not self._is_over.is_set() and not self.other:
            wait = AGAIN
            with contextlib.suppress(StateError):
                with self._database.writing() as connection:
                    self.other = self._take(connection)
                self.is_answered.set()
                wait = RENEWED
            self._is_over.wait(wait)
        if not self.other:
            with contextlib.suppress(StateError), self._database.writing() as connection:
                given = {"run": self._run, "token": self._mine}
                connection.execute("DELETE FROM leases WHERE run = :run AND token = :token", given)

    def _take(self, connection: Connection) -> str:
        """Take the lease or renew it. Return who has it otherwise.

        A run that workers have had, of which none lives, is taken from them: they are not heard any more.
        """
        found = connection.execute(
            f"SELECT origin FROM leases WHERE run = :run AND token <> :mine AND token <> :before AND {clock.LIVES}",
            {"run": self._run, "mine": self._mine, "before": self._before},
        ).fetchone()
        if found is not None:
            return str(found[0]) or "another machine"
        if not self._is_new:
            if self._run in workers.under_way(connection):
                return "workers: fleet workers tells which"
            shares.close(connection, self._run, RolloutState.TAKEN)
        connection.execute(
            "INSERT INTO leases (run, token, origin, process, ends)"
            f" VALUES (:run, :token, :origin, :process, {clock.NOW} + {clock.LASTS})"
            " ON CONFLICT (run) DO UPDATE SET token = excluded.token, origin = excluded.origin,"
            " process = excluded.process, ends = excluded.ends",
            {"run": self._run, "token": self._mine, "origin": socket.gethostname(), "process": os.getpid()},
        )
        return ""


def _token(folder: Path) -> str:
    with contextlib.suppress(OSError):
        return read_file(folder / TOKEN, most=100).decode("ascii", "replace")
    return ""
