"""Keep the ledger: entries in the database, and in files of their own until they can be entered there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import time
from typing import TYPE_CHECKING

from fleet.files import read_file, replace_file
from fleet.ledger import ZERO, Entry, Head, Kind, Ledger
from fleet.ledger.chain import begun_in, parse
from fleet.ledger.entries import OURS, canonical, written
from fleet.ledger.keeper import Kept
from fleet.model import Outcome
from fleet.state.folders import make_private
from fleet.text import parsed_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from fleet.events import Envelope
    from fleet.ledger.chain import Begun
    from fleet.model import RunId
    from fleet.state.database import Connection, Database
    from fleet.state.entered import Entered

LATE = "late"
"""The folder with the entries that wait to be entered: a file for each call of `enter_later`."""
UNREADABLE = ".unreadable"
_FILE = re.compile(r"[0-9]{19}-[0-9a-f]{12}")
_LARGEST = 1 << 26
"""The most bytes of such a file that are read. An intent for 100,000 hosts is smaller."""


class StoredLedger(Ledger):
    """See `Ledger`. The database has a line for each entry, and notes the head of the last one."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder = folder
        self._database = database

    def enter(self, *entries: Entry) -> Head:
        with self._database.writing() as connection:
            head, taken = self.add(connection, entries)
        self.remove(taken)
        return head

    def add(self, connection: Connection, entries: Iterable[Entry]) -> tuple[Head, Sequence[Path]]:
        """Add entries within a transaction of the caller, behind those that wait for that.

        Return the head, and the files to `remove` when the transaction has been committed.
        """
        waiting = {file: [] if _is_entered(connection, file) else _read(file) for file in self._files()}
        taken = [file for file, found in waiting.items() if found is not None]
        late = [(file.name, entry) for file in taken for entry in waiting[file] or ()]
        together = [*late, *(("", entry) for entry in entries)]
        end = _End(_end(connection))
        if end.head is None:
            end.open(self._folder.name, together[0][1] if together else None)
        for name, entry in together:
            end.put(entry, late=name)
        connection.executemany("INSERT INTO ledger (entry, line) VALUES (:entry, :line)", end.rows)
        assert end.head is not None
        connection.execute(f"DELETE FROM meta WHERE {_IS_NOTE}")
        connection.execute("INSERT INTO meta (\"key\", value) VALUES ('ledger', :head)", {"head": str(end.head)})
        return end.head, taken

    def close(self, connection: Connection, run: RunId) -> Sequence[Path]:
        """Enter within a transaction of the caller that a run is forgotten, if it was cut short. See `add`."""
        if (begun := _begun(connection, run)) is None:
            return ()
        told = {"run": run, "why": "cut short; nothing is left under way, and it is forgotten here"}
        hosts = [{**told, "host": host, "outcome": Outcome.SKIPPED.value} for host in begun.hosts]
        kinds = [*((Kind.RESULT, values) for values in hosts), (Kind.END, told)]
        return self.add(connection, [Entry(kind=kind, by="", origin="", values=values) for kind, values in kinds])[1]

    def catch_up(self, connection: Connection, entered: Entered, envelopes: Sequence[Envelope]) -> Sequence[Path]:
        """Enter within a transaction of the caller what events of a run that come late are entered with. See `add`."""
        taken = list(self.add(connection, [])[1]) if self.kept_for_later() else []  # they may say that it has begun
        if envelopes and (begun := _begun(connection, envelopes[0].run)) is not None:
            entered.begin(begun.hosts)
        entries = list(entered.entries(envelopes))
        return [*taken, *self.add(connection, entries)[1]] if entries else taken

    def remove(self, taken: Iterable[Path]) -> None:
        """Remove files whose entries are in the ledger. One that stays is not entered again."""
        for file in taken:
            with contextlib.suppress(OSError):
                file.unlink()

    def enter_later(self, *entries: Entry) -> bool:
        name = f"{time.time_ns():019}-{secrets.token_hex(6)}"
        told = [
            {"kind": one.kind.value, "by": one.by, "from": one.origin, "at": one.at, "values": _values_of(one)}
            for one in entries
        ]
        try:
            make_private(self._folder)
            self._late.mkdir(mode=0o700, exist_ok=True)
            replace_file(self._late / name, canonical(told).encode("ascii"), durable=True)
        except OSError:
            return False
        return True

    def noted(self) -> Head | None:
        if not self._database.exists:
            return None
        with self._database.reading() as connection:
            return _noted(connection)

    def read(self) -> Kept:
        if not self._database.exists:
            return Kept()
        with self._database.reading() as connection:
            rows = connection.execute(f"{_LINES} ORDER BY entry")
            return Kept([(int(number), str(line)) for number, line in rows], _noted(connection))

    def begun(self, run: str) -> Begun | None:
        if not self._database.exists:
            return None
        with self._database.reading() as connection:
            return _begun(connection, run)

    def kept_for_later(self) -> int:
        return len(self._files())

    def put_aside(self) -> Sequence[Path]:
        return sorted(self._late.glob(f"*{UNREADABLE}"))

    @property
    def _late(self) -> Path:
        return self._folder / LATE

    def _files(self) -> list[Path]:
        """Return the files of entries that wait, oldest first."""
        try:
            with os.scandir(self._late) as found:
                names = sorted(one.name for one in found if _FILE.fullmatch(one.name))
        except OSError:
            return []
        return [self._late / name for name in names]


class _End:
    """The end of a ledger, to which lines are added."""

    def __init__(self, head: Head | None) -> None:
        self.head = head
        self.rows: list[dict[str, object]] = []

    def open(self, fleet: str, first: Entry | None) -> None:
        """Begin the ledger, in the name of whoever adds the first entry."""
        self.head = Head(secrets.token_hex(16), 0, ZERO)
        by, origin = (first.by, first.origin) if first is not None else ("", "")
        self.put(Entry(kind=Kind.OPENED, by=by, origin=origin, values={"ledger": self.head.ledger, "fleet": fleet}))

    def put(self, entry: Entry, *, late: str = "") -> None:
        """Add an entry."""
        assert self.head is not None
        number = self.head.size + 1
        line, hash_ = written(entry, number, self.head.hash, late=late)
        self.rows.append({"entry": number, "line": line})
        self.head = Head(self.head.ledger, number, hash_)


_LINES = "SELECT entry, line FROM ledger"
_IS_NOTE = "\"key\" = 'ledger'"


def _noted(connection: Connection) -> Head | None:
    """Return the noted head; None if none is, or what is noted is no head."""
    found = connection.execute(f"SELECT value FROM meta WHERE {_IS_NOTE}").fetchone()
    with contextlib.suppress(ValueError):
        return Head.parse(found[0]) if found is not None else None
    return None


def _end(connection: Connection) -> Head | None:
    """Return the head that the next entry follows.

    That is the noted one. Whoever has taken the note away, or has put entries behind it, stops nobody by that: what
    comes next is kept behind them, and they are wrong for ever.
    """
    noted = _noted(connection)
    if noted is None:
        return _last(connection)
    (newest,) = connection.execute("SELECT max(entry) FROM ledger").fetchone()
    return noted._replace(size=max(noted.size, newest or 0))


def _last(connection: Connection) -> Head | None:
    """Return the head by the entries themselves, as far as they say; None if there are none."""
    last = connection.execute(f"{_LINES} ORDER BY entry DESC LIMIT 1").fetchone()
    first = connection.execute(f"{_LINES} ORDER BY entry LIMIT 1").fetchone()
    if last is None:
        return None
    bodies = [parse(line) or {} for _, line in (first, last)]
    ledger = bodies[0].get("ledger")
    is_id = isinstance(ledger, str) and re.fullmatch("[0-9a-f]{32}", ledger)
    text = hashlib.sha256(last[1].encode()).hexdigest()  # of a line that is wrong, anything
    return Head(str(ledger) if is_id else ZERO[:32], int(last[0]), bodies[1].get("hash", text))


def _begun(connection: Connection, run: str) -> Begun | None:
    """See `Ledger.begun`."""
    found = connection.execute(f"{_LINES} WHERE line LIKE :run ORDER BY entry", {"run": f'%"run":"{run}"%'})
    return begun_in(line for _, line in found).get(run)


def _is_entered(connection: Connection, file: Path) -> bool:
    """Whether the entries in the file are in the ledger, though it was not removed."""
    pattern = f'%"late":"{file.name}"%'
    return (
        connection.execute("SELECT 1 FROM ledger WHERE line LIKE :pattern", {"pattern": pattern}).fetchone() is not None
    )


def _values_of(entry: Entry) -> dict[str, object]:
    return {key: value for key, value in entry.plain.items() if key not in OURS}


def _read(file: Path) -> list[Entry] | None:
    """Return the entries in a file; None if it cannot be read now.

    One whose contents are no entries is put aside, and whoever verifies the ledger is told.
    """
    try:
        text = read_file(file, most=_LARGEST)
    except OSError:
        return None
    try:
        return [
            Entry(kind=Kind(one["kind"]), by=one["by"], origin=one["from"], at=int(one["at"]), values=one["values"])
            for one in parsed_json(text)
        ]
    except (ValueError, LookupError, TypeError, AttributeError):
        with contextlib.suppress(OSError):
            file.rename(file.with_suffix(UNREADABLE))
        return None
