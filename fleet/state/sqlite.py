"""Everything that is particular to SQLite: opening, locking, errors, and SQL that is not standard.

The journal is a rollback journal. In WAL mode, versions before 3.51.3 (3.50.7, 3.44.6) can lose commits, and the mode
stays in the file for whatever older program opens it next. The journal is truncated after a commit because SQLite syncs
that. It does not sync a deletion of the journal: a power cut soon afterwards can bring it back, which undoes the
commit.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
from typing import TYPE_CHECKING
from urllib.parse import quote

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


class SqliteDatabase:
    """See `Database`. A file, opened anew for each transaction, so that one that was replaced meanwhile is noticed."""

    is_shared = False

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def exists(self) -> bool:
        """See `Database.exists`."""
        return os.path.lexists(self._path)

    def patience(self, error: StateError) -> float:  # noqa: ARG002 - all are alike
        """See `Database.patience`: it has waited, and a full disk or a damaged file is no better a moment later."""
        return 0.0

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """See `Database.reading`. The file must exist."""
        with self._errors_as_state_error("read what it has recorded"):
            with self._transaction("BEGIN") as connection:
                is_current = schema.is_current(connection, _tables(connection))
            if not is_current:
                with self.writing():
                    pass  # to bring the tables up to date
            with self._transaction("BEGIN") as connection:
                yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """See `Database.writing`."""
        with self._errors_as_state_error("record what it does"):
            self._make()
            # It takes the lock at once: to take it after a read can fail without a wait.
            with self._transaction("BEGIN IMMEDIATE") as connection:
                schema.migrate(connection, _tables(connection))
                yield connection

    def _make(self) -> None:
        """Make the file if there is none, readable for this user only."""
        if self.exists:
            return
        make_private(self._path.parent)
        with contextlib.suppress(FileExistsError):
            # Without opening it: to close it again would drop the locks that SQLite holds on it in another thread.
            os.mknod(self._path, 0o600 | stat.S_IFREG)

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """Open a connection and a transaction, while inside. It is committed, or rolled back if an error is raised."""
        with contextlib.closing(self._connect()) as connection:
            connection.execute(begin)
            with connection:
                yield connection

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
        except sqlite3.Error as error:
            raise self._error(doing, *_reason(error)) from error

    def _error(self, doing: str, why: str, hint: str) -> StateError:
        return StateError(f"this machine cannot {doing}: {self._path}: {why}", hint=hint)


def _tables(connection: sqlite3.Connection) -> set[str]:
    """Return the names of all tables but SQLite's own."""
    own = r"name NOT LIKE 'sqlite\_%' ESCAPE '\'"
    return {name for (name,) in connection.execute(f"SELECT name FROM sqlite_master WHERE type = 'table' AND {own}")}


def _reason(error: sqlite3.Error) -> tuple[str, str]:
    """Return what is wrong, and what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the higher bits only distinguish variants
    return _EXPLANATIONS.get(code, (str(error), ""))
