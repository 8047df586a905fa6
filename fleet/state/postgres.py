"""Everything that is particular to PostgreSQL: connecting, locking, errors, and SQL that is not standard.

A fleet has a schema of its own in the database. Whoever writes holds an advisory lock for the length of a transaction,
as SQLite locks its file, so that both give the same answers to the same questions.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors, sql

from fleet.errors import StateError
from fleet.state import schema
from fleet.state.folders import PATIENCE
from fleet.state.passfile import password_file, require_private
from fleet.state.session import Session
from fleet.text import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fleet.model import DatabaseAddress

CONNECTING = 5
"""Seconds in which a connection to one server comes about."""
ANSWERING = PATIENCE + 15
"""Seconds in which the server answers a statement. It says sooner that it has waited `PATIENCE` for a lock."""
AWAY = 30.0
"""Seconds for which writing waits for a server that is away: it may be started anew, or another may take its place."""
SILENT = 10
"""Seconds for which nobody asks a server again that has not answered: somebody may wait for many answers."""
IDLE = 10
"""Seconds after which the server ends a transaction in which it hears nothing: the machine that began it sleeps, or is
gone, and others wait for its lock."""
KEPT = 4
"""Connections that are kept open between transactions."""
# Not as of one moment: what is read must be as it is once the lock is ours.
_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_LOST = "what has begun ends by itself; fleet goes on when PostgreSQL can be reached again"
_HINTS: tuple[tuple[type[psycopg.Error], str], ...] = (
    (errors.LockNotAvailable, "pg_locks in that database tells which one"),
    (errors.DiskFull, "free some space there"),
    (errors.ReadOnlySqlTransaction, "it is a standby, or is kept from writing: name the server that takes writes"),
    (errors.InsufficientPrivilege, "docs/state.md says what the user must be allowed"),
    (psycopg.OperationalError, _LOST),
)


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection on which nobody waits for ever for a server that was stopped, or a disk there that hangs."""

    limit: float = ANSWERING
    """Seconds in which the server answers the next statement."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        until = time.monotonic() + self.limit
        try:
            return super().wait(gen, interval, self.limit if timeout is None else timeout)
        except psycopg.OperationalError as error:
            if time.monotonic() < until:
                raise
            raise psycopg.OperationalError(f"it has not answered within {self.limit:g} seconds") from error


class PostgresDatabase:
    """See `Database`. Connections are kept for the next transaction; nothing connects before the first."""

    is_shared = True
    exists = True

    def __init__(self, address: DatabaseAddress, fleet: str) -> None:
        """`fleet` is the name of the fleet."""
        self._address = address
        self.schema = _schema_of(fleet)
        key = int.from_bytes(hashlib.sha256(f"fleet {self.schema}".encode()).digest()[:8], signed=True)
        self._path = f"SET LOCAL search_path TO {sql.Identifier(self.schema).as_string()}"
        self._alone = f"SET LOCAL lock_timeout = '{int(PATIENCE)}s'; SELECT pg_advisory_xact_lock({key})"
        self._silence = (0.0, "")
        """Until when nobody asks a server that did not answer, and what was said of that."""
        self._idle: list[_Connection] = []
        self._guard, self._writer = threading.Lock(), threading.Lock()
        weakref.finalize(self, _close_all, self._idle)

    def patience(self, error: StateError) -> float:
        """See `Database.patience`."""
        return AWAY if isinstance(error.__cause__, psycopg.OperationalError) else 0.0

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """See `Database.reading`."""
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        with self._errors_as_state_error("read what it has recorded"):
            with self._transaction(begin) as session:
                is_current = schema.is_current(session, self._tables(session))
                if is_current:
                    yield session
            if not is_current:
                with self.writing():
                    pass  # to bring the tables up to date
                with self._transaction(begin) as session:
                    yield session

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """See `Database.writing`."""
        with self._errors_as_state_error("record what it does"), self._turn(), self._transaction(_WRITE) as session:
            session.execute(f"{_DURABLE}; {self._alone}")
            tables = self._tables(session)
            if not tables:
                self._make_schema(session)
            schema.migrate(session, tables)
            yield session

    @contextlib.contextmanager
    def writing_beside(self) -> Iterator[Session]:
        """Open a transaction that writes rows which nobody else writes, while inside: it waits for no lock.

        The tables are up to date.
        """
        with self._errors_as_state_error("record what it does"), self._transaction(_WRITE) as session:
            yield session

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Let one thread of this process wait for the lock at a time.

        If the process is stopped, the server gives the lock to each of those that wait, and waits `IDLE` for it.
        """
        if not self._writer.acquire(timeout=PATIENCE):
            raise errors.LockNotAvailable
        try:
            yield
        finally:
            self._writer.release()

    def _tables(self, session: Session) -> set[str]:
        found = session.execute("SELECT tablename FROM pg_tables WHERE schemaname = :name", {"name": self.schema})
        return {name for (name,) in found}

    def _make_schema(self, session: Session) -> None:
        there = session.execute("SELECT 1 FROM pg_namespace WHERE nspname = :name", {"name": self.schema})
        if there.fetchone() is None:  # whoever may not make one can be given one
            session.execute(f"CREATE SCHEMA {sql.Identifier(self.schema).as_string()}")

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[Session]:
        """Open a transaction, while inside. It is committed, or ends with its connection if an error is raised."""
        connection = self._begun(f"{begin}; {self._path}; SET LOCAL idle_in_transaction_session_timeout = '{IDLE}s'")
        try:
            yield Session(connection)
            _commit(connection)
        except BaseException:
            connection.close()
            raise
        with self._guard:
            is_kept = len(self._idle) < KEPT
            if is_kept:
                self._idle.append(connection)
        if not is_kept:
            connection.close()

    def _begun(self, begin: str) -> _Connection:
        """Return a connection on which a transaction has begun: one that was kept, if its server still knows it.

        Where the server has just kept somebody waiting, raise the same error at once.
        """
        if time.monotonic() < self._silence[0]:
            raise psycopg.OperationalError(self._silence[1])
        while True:
            was_kept = (connection := self._kept()) is not None
            began = time.monotonic()
            try:
                connection = connection or self._connect()
                connection.limit = CONNECTING  # it waits for nobody's lock
                connection.execute(begin.encode())
            except psycopg.OperationalError as error:
                was_lost = was_kept and connection is not None and connection.broken
                if connection is not None:
                    connection.close()
                if was_lost:
                    continue
                if time.monotonic() - began >= CONNECTING - 1:
                    self._silence = (time.monotonic() + SILENT, str(error))
                raise
            connection.limit = ANSWERING
            return connection

    def _kept(self) -> _Connection | None:
        with self._guard:
            return self._idle.pop() if self._idle else None

    @property
    def arguments(self) -> dict[str, Any]:
        """What a connection is made with. Raise `StateError` if others can read the file with the password."""
        require_private(self._address)
        return {
            "dbname": self._address.database,
            # Also where there are none, so that PGHOST and PGHOSTADDR lead nobody elsewhere.
            "host": ",".join(host for host, _ in self._address.hosts),
            "port": ",".join(str(port or "") for _, port in self._address.hosts),
            "hostaddr": "",
            **({"user": self._address.user} if self._address.user else {}),
            **self._address.options,
            **_STEADY,
            "connect_timeout": CONNECTING,
            "autocommit": True,
            "prepare_threshold": None,  # poolers do not know prepared statements
        }

    def _connect(self) -> _Connection:
        connection = _Connection.connect(**self.arguments)
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            connection.close()
            raise self._error("use it", f"its encoding is {encoding}", "make a database with ENCODING 'UTF8'")
        return connection

    @contextlib.contextmanager
    def _errors_as_state_error(self, doing: str) -> Iterator[None]:
        """Turn errors of the server and of the connection into `StateError`, while inside."""
        try:
            yield
        except schema.NewerError as error:
            raise self._error(doing, str(error), "run that one, or name another database") from error
        except schema.ForeignError as error:
            raise self._error(doing, f"{self.schema}: {error}", "name another database") from error
        except psycopg.Error as error:
            raise self._error(doing, *self._reason(error)) from error

    def _reason(self, error: psycopg.Error) -> tuple[str, str]:
        """Return what is wrong, and what to do."""
        told = error.diag.message_primary or " ".join(str(error).split())
        hint = next((hint for kind, hint in _HINTS if isinstance(error, kind)), "")
        if isinstance(error, errors.LockNotAvailable):
            told = f"another process has kept it locked for {PATIENCE:g} seconds"
        if "password" in told:
            hint = f"{password_file(self._address)} has passwords, a line for each: HOST:PORT:DATABASE:USER:PASSWORD"
        return shortened(told, 300), hint

    def _error(self, doing: str, why: str, hint: str) -> StateError:
        return StateError(f"this machine cannot {doing}: {self._address}: {why}", hint=hint)


_DURABLE = "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
_STEADY: Mapping[str, Any] = {
    "application_name": "fleet",
    "client_encoding": "UTF8",
    # A machine that is gone says nothing. These notice it within half a minute.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}


def _commit(connection: _Connection) -> None:
    """End the transaction. Raise an error if one of its statements has failed: the server says ROLLBACK then."""
    if connection.execute("COMMIT").statusmessage != "COMMIT":
        raise psycopg.OperationalError("what has failed in a transaction takes back all of it")


def _schema_of(fleet: str) -> str:
    """Return the name of a fleet's schema. PostgreSQL would cut a name of more than 63 bytes, without a word."""
    name = f"fleet_{fleet}"
    return name if len(name) < 64 else f"fleet_{hashlib.sha256(fleet.encode()).hexdigest()[:40]}"


def _close_all(connections: Iterable[_Connection]) -> None:
    for connection in connections:
        connection.close()
