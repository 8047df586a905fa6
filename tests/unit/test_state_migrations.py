"""A database of any earlier version is brought up to date with what is in it: once, however many come at once."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from fleet.events import decode, event_json
from fleet.ledger import Kind
from fleet.state import Asked, BaselineRecord, PlanRecord, RunRecord, SeenRecord, queries, schema
from fleet.state.postgres import PostgresDatabase
from fleet.state.records import fold_all
from fleet.state.sqlite import SqliteDatabase
from tests.unit.ledgers import entry
from tests.unit.state_builders import RUN, SWITCH, WEB, address, open_state, python, said, started, wrapped
from tests.unit.test_state_store import delivery

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.state.database import Database

pytestmark = pytest.mark.usefixtures("kept")
TOLD = wrapped(started(), SWITCH)


def database(folder: Path) -> Database:
    """The database of the state in this folder, wherever the test keeps it."""
    there = address()
    return PostgresDatabase(there, folder.name) if there is not None else SqliteDatabase(folder / "state.db")


def made_by_an_earlier_fleet(folder: Path, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that had so many migrations, with a run and a plan in it if it had tables for them."""
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:version])
        with database(folder).writing() as connection:
            if version:
                queries.add_run(connection, fold_all(RunRecord(id=RUN, plan="1f3c"), TOLD))
                queries.add_events(connection, TOLD)
                queries.add_plan(connection, PlanRecord("1f3c", 1.0, 2e9), "text")


@pytest.mark.parametrize("version", range(len(schema.MIGRATIONS)))
def test_every_earlier_version_is_brought_up_to_date_and_keeps_what_it_had(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by_an_earlier_fleet(tmp_path, version, monkeypatch)
    state = open_state(tmp_path)
    known = [(run.id, run.plan, run.hosts[WEB].begun) for run in state.runs()]
    assert known == ([(RUN, "1f3c", True)] if version else [])
    assert state.events(RUN) == (TOLD if version else [])
    assert [plan.digest for plan in state.plans()] == (["1f3c"] if version else [])
    # What later versions brought.
    state.ask(RUN, Asked.PAUSE, by="ann")
    state.remember_seen({WEB: SeenRecord(1.0, "{}")}, known=[WEB])
    state.want([delivery(WEB, "r1")])
    state.keep_baseline(WEB, BaselineRecord(at=1.0, by="ann", body="{}"))
    state.ledger.enter(entry(Kind.APPROVAL, plan="a" * 64))
    assert (state.asked(RUN) is not None, list(state.seen()), len(state.deliveries())) == (True, [WEB], 1)
    assert (state.has_baseline(WEB), len(state.ledger.read().lines)) == (True, 2)
    with database(tmp_path).reading() as connection:
        found = connection.execute("SELECT value FROM meta WHERE \"key\" = 'version'")
        assert list(found) == [(str(len(schema.MIGRATIONS)),)]


OPEN = """
import sys; from pathlib import Path
from tests.unit.state_builders import open_state
state = open_state(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print([run.id for run in state.runs()], flush=True)
"""


def test_version_is_made_once_by_many_processes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_by_an_earlier_fleet(tmp_path, 1, monkeypatch)
    with ExitStack() as stack:
        others = [stack.enter_context(python(OPEN, tmp_path)) for _ in range(4)]
        assert [said(other) for other in others] == ["ready"] * 4
        for other in others:
            assert other.stdin is not None
            other.stdin.write("\n")
            other.stdin.flush()
        assert [said(other) for other in others] == [str([str(RUN)])] * 4


def test_migration_that_fails_leaves_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_by_an_earlier_fleet(tmp_path, len(schema.MIGRATIONS), monkeypatch)
    more = ("CREATE TABLE songs (name TEXT)", "CREATE nonsense")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, more))
        with pytest.raises(Exception, match="nonsense"):
            open_state(tmp_path).runs()
    assert [run.id for run in open_state(tmp_path).runs()] == [RUN]


def test_what_is_stored_is_the_same_byte_for_byte_in_both(tmp_path: Path, kept: str) -> None:
    """The rows, that is: whoever reads them gets the same."""
    state = open_state(tmp_path)
    with state.recorder(RUN, plan="1f3c") as recorder:
        for envelope in TOLD:
            recorder.record(envelope)
    with database(tmp_path).reading() as connection:
        rows = list(connection.execute('SELECT run, seq, at, "by", kind, host, body FROM events ORDER BY seq'))
        run = list(connection.execute('SELECT id, verb, made, "by", plan, hosts FROM runs'))
    assert [(type(value), value) for value in run[0]] == [
        (str, RUN), (str, "deploy"), (float, 1795946400.5), (str, "ann"), (str, "1f3c"), (str, '["web-1"]'),
    ]  # fmt: skip
    assert [decode(row[6], run=row[0], seq=row[1], at=row[2], by=row[3]) for row in rows] == TOLD
    assert [(row[4], row[5]) for row in rows] == [("run_started", None), ("phase_started", WEB)]
    assert event_json(SWITCH) == {"event": "phase_started", "host": WEB, "phase": "switch"}
