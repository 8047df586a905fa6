"""What the rest of the state asks of a database, and what there is where none can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from fleet.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager


class Cursor(Protocol):
    """The rows of an answer, as tuples."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """What the queries ask of a connection of the DB-API (PEP 249) within a transaction."""

    def execute(self, statement: str, values: Mapping[str, Any] = ..., /) -> Cursor: ...

    def executemany(self, statement: str, rows: Iterable[Mapping[str, Any]], /) -> object: ...


class Database(Protocol):
    """The database of one fleet. Any thread may use it. Transactions raise `StateError`."""

    is_shared: bool
    """Whether other machines use it too."""

    @property
    def exists(self) -> bool:
        """Whether there may be anything to read."""

    def patience(self, error: StateError) -> float:
        """Return for how many seconds after this error a write may still come about, since the database may be back."""

    def reading(self) -> AbstractContextManager[Connection]:
        """Open a transaction that reads, while inside. All of it is read as of one moment."""

    def writing(self) -> AbstractContextManager[Connection]:
        """Open a transaction that writes, alone in this database.

        Everything is on disk afterwards, or nothing if an error is raised. It may be there all the same if the error is
        that the connection was lost.
        """


class NoDatabase(Database):
    """In place of one for which something is not installed. Each transaction says what: going back needs none."""

    is_shared = True
    exists = True

    def __init__(self, why: StateError) -> None:
        self._why = why

    def patience(self, error: StateError) -> float:  # noqa: ARG002 - all are alike
        return 0.0

    def reading(self) -> NoReturn:
        raise StateError(self._why.message, hint=self._why.hint)

    def writing(self) -> NoReturn:
        raise StateError(self._why.message, hint=self._why.hint)
