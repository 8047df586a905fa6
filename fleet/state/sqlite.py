"""Everything that is particular to SQLite: opening, locking, errors, and SQL that is not standard.

The journal is a rollback journal. In WAL mode, versions before 3.51.3 (3.50.7, 3.44.6) can lose commits, and the mode
stays in the file for whatever older program opens it next. The journal is truncated after a commit because SQLite syncs
that. It does not sync a deletion of the journal: a power cut soon afterwards can bring it back, which undoes the
commit.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sqlite3
import stat
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from fleet.errors import StateError
from fleet.state import schema
from fleet.state.folders import ELSEWHERE, PATIENCE, make_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DAMAGED = "move it and its journal away together: runs are then read in again from their folders"
_EXPLANATIONS = {
    sqlite3.SQLITE_FULL: (os.strerror(errno.ENOSPC), f"free some space, or {ELSEWHERE}"),
    sqlite3.SQLITE_BUSY: (f"another process has kept it locked for {PATIENCE:g} seconds", "fuser tells which one"),
    sqlite3.SQLITE_READONLY: ("it cannot be written", ELSEWHERE),
    sqlite3.SQLITE_CANTOPEN: ("it, or its journal beside it, cannot be opened", ELSEWHERE),
    sqlite3.SQLITE_IOERR: (os.strerror(errno.EIO), ELSEWHERE),
    sqlite3.SQLITE_NOTADB: ("it is no database", _DAMAGED),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", _DAMAGED),
}
"""For each SQLite error that can be expected: what is wrong, and what to do. SQLite's own messages name no file."""


class Database:
    """A database file that is opened anew for each transaction, so that a file that was replaced meanwhile is noticed.

    Any thread may use it. Transactions raise `StateError`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def exists(self) -> bool:
        """Whether anything was ever written."""
        return os.path.lexists(self._path)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a connection that reads, while inside. All of it is read as of one moment. The file must exist."""
        with self._errors_as_state_error("read what it has recorded"):
            with self._engine.connect() as connection:
                is_current = schema.is_current(connection)
            if not is_current:
                with self.writing():
                    pass  # to bring the tables up to date
            with self._engine.connect() as connection:
                yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that writes. Everything is on disk afterwards, or nothing if an error is raised."""
        with self._errors_as_state_error("record what it does"):
            self._make()
            with self._engine.execution_options(writes=True).begin() as connection:
                schema.migrate(connection)
                yield connection

    def insert_new(self, connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> bool:
        """Insert the row unless its key is there already. Returns whether it was inserted."""
        return connection.execute(insert(table).values(row).on_conflict_do_nothing()).rowcount == 1

    def _make(self) -> None:
        """Make the file if there is none, readable for this user only."""
        if self.exists:
            return
        make_private(self._path.parent)
        with contextlib.suppress(FileExistsError):
            # Without opening it: to close it again would drop the locks that SQLite holds on it in another thread.
            os.mknod(self._path, 0o600 | stat.S_IFREG)

    @functools.cached_property
    def _engine(self) -> sa.Engine:
        engine = sa.create_engine("sqlite://", creator=self._connect, poolclass=sa.NullPool)
        sa.event.listen(engine, "begin", _begin)
        return engine

    def _connect(self) -> sqlite3.Connection:
        address = f"file:{quote(str(self._path))}?mode=rw"  # SQLite would make the file with another mode
        connection = sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=TRUNCATE")
            connection.execute("PRAGMA synchronous=FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _errors_as_state_error(self, doing: str) -> Iterator[None]:
        """Turn errors of the disk and of the database into `StateError`, while inside."""
        try:
            yield
        except schema.NewerError as error:
            raise self._error(doing, str(error), f"run that one, or {ELSEWHERE}") from error
        except schema.ForeignError as error:
            raise self._error(doing, str(error), _DAMAGED) from error
        except OSError as error:
            raise self._error(doing, error.strerror or str(error), ELSEWHERE) from error
        except sa.exc.DBAPIError as error:
            raise self._error(doing, *_reason(error.orig)) from error
        except sqlite3.Error as error:
            raise self._error(doing, *_reason(error)) from error

    def _error(self, doing: str, why: str, hint: str) -> StateError:
        return StateError(f"this machine cannot {doing}: {self._path}: {why}", hint=hint)


def _begin(connection: sa.Connection) -> None:
    """Begin a transaction.

    One that will write takes the lock at once: to take it after a read can fail without a wait.
    """
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _reason(error: BaseException | None) -> tuple[str, str]:
    """Return what is wrong, and what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the higher bits only distinguish variants
    return _EXPLANATIONS.get(code, (str(error), ""))
