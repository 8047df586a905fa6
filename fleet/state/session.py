"""A connection to PostgreSQL that the queries use as they use one to SQLite."""

from __future__ import annotations

import functools
import itertools
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import psycopg

    from fleet.state.database import Cursor

AT_ONCE = 1000
"""Rows that are sent together."""


class Session:
    """A connection within a transaction. Values stand as `:name`, as for SQLite."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    def execute(self, statement: str, values: Mapping[str, Any] | None = None, /) -> Cursor:
        """Run a statement."""
        if values is None:
            return self.connection.execute(_own(statement).encode())
        return self.connection.execute(_with_marks(statement), _storable(values))

    def executemany(self, statement: str, rows: Iterable[Mapping[str, Any]], /) -> object:
        """Run a statement once for each row of values, in their order."""
        marks, stored = _with_marks(statement), map(_storable, rows)
        while part := list(itertools.islice(stored, AT_ONCE)):  # each is answered within the limit
            self.connection.cursor().executemany(marks, part)
        return None


@functools.lru_cache
def _own(statement: str) -> str:
    """Let text be compared byte by byte, whatever the language of the database: that is SQLite's order."""
    return re.sub(r"\bTEXT\b", 'TEXT COLLATE "C"', statement) if statement.startswith("CREATE TABLE") else statement


@functools.lru_cache
def _with_marks(statement: str) -> bytes:
    """Return the statement with psycopg's marks. No colon stands in it for anything else."""
    return re.sub(r":([a-z]+)\b", r"%(\1)s", statement.replace("%", "%%")).encode()


def _storable(values: Mapping[str, Any]) -> dict[str, Any]:
    """PostgreSQL has no text with a zero byte."""
    return {name: value.replace("\0", "\ufffd") if isinstance(value, str) else value for name, value in values.items()}
