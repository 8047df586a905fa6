"""Ledgers for tests, and ways to spoil them that keep as much of a ledger right as they can."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from fleet.ledger import ZERO, Entry, Head, Kind
from fleet.ledger.entries import canonical, hash_of, written
from tests.unit.state_builders import KEPT_IN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from fleet.ledger.entries import Value

ID, OTHER_ID = "5f" * 16, "6a" * 16
RUN = "20261120T042211-3fa9c1d2"


def entry(kind: Kind, by: str = "ann", at: int = 1795946400, **values: Value) -> Entry:
    return Entry(kind=kind, by=by, origin="desk", at=at, values=values)


OPENED = entry(Kind.OPENED, ledger=ID, fleet="home")
USUAL = (
    OPENED,
    entry(Kind.PLAN, plan="a" * 64),
    entry(Kind.BEGIN, run=RUN, hosts=("db-1", "web-1")),
    entry(Kind.COMMIT, run=RUN, host="web-1"),
    entry(Kind.REVERT, run=RUN, host="db-1", why="check web: 503, \u201cbusy\u201d"),
    entry(Kind.END, run=RUN, exit_code=1),
    entry(Kind.APPROVAL, plan="b" * 64, key="SHA256:x"),
)


def lines_of(entries: Iterable[Entry], *, before: str = ZERO, first: int = 1) -> list[str]:
    """The entries one after another, each with the hash of the one before."""
    lines = []
    for number, one in enumerate(entries, first):
        line, before = written(one, number, before)
        lines.append(line)
    return lines


def head_of(lines: Sequence[str], size: int | None = None, ledger: str = ID) -> Head:
    """The head after so many entries, or all."""
    size = size or len(lines)
    return Head(ledger, size, json.loads(lines[size - 1])["hash"])


def rehashed(line: str, **changes: Any) -> str:
    """The entry with other values and with the hash that these have."""
    body = {**json.loads(line), **changes}
    return canonical({**body, "hash": hash_of(body)})


def rewritten(lines: Sequence[str], number: int, **changes: Any) -> list[str]:
    """All of the ledger as if that entry had had these values from the first."""
    found = list(lines[: number - 1])
    for line in lines[number - 1 :]:
        before = json.loads(found[-1])["hash"] if found else ZERO
        found.append(rehashed(line, **{"prev": before, **changes}))
        changes = {}
    return found


def in_database(folder: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    """Somebody changes the database by hand, wherever the test keeps it."""
    if (url := os.environ.get(KEPT_IN)) is not None:
        import psycopg

        with psycopg.connect(url, options=f"-c search_path=fleet_{folder.name}") as connection:
            for statement, values in statements:
                connection.execute(statement.replace("?", "%s").encode(), values)
        return
    with closing(sqlite3.connect(folder / "state.db")) as other, other:
        for statement, values in statements:
            other.execute(statement, values)


def replace_lines(folder: Path, lines: Sequence[str], noted: Head | None) -> None:
    """Somebody writes the whole ledger anew, and the note of its head, or takes that away."""
    in_database(folder, ("DELETE FROM ledger", ()), ("DELETE FROM meta WHERE key = 'ledger'", ()))
    rows = enumerate(lines, 1)
    in_database(folder, *(("INSERT INTO ledger VALUES (?, ?)", row) for row in rows))
    if noted is not None:
        in_database(folder, ("INSERT INTO meta VALUES ('ledger', ?)", (str(noted),)))
