"""Disks that are full, files that are damaged, strange, too new or not to be written: errors that say what to do."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from fleet.errors import StateError
from fleet.events import OutputLine
from fleet.model import Phase
from fleet.state import schema
from tests.unit.state_builders import (
    PUSH,
    RUN,
    SWITCH,
    WEB,
    folder_of_0_1_0,
    folder_of_today,
    open_state,
    python,
    record,
    recorded,
    run_id,
    said,
    started,
    wrapped,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleet.state import State

LINES = [OutputLine(host=WEB, phase=Phase.BUILD, text="x" * 3000)] * 50
FULL = "No space left on device"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("only root can mount a disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def fill(disk: Path) -> Path:
    """The file that takes all the room there is."""
    file = disk / "fill"
    block = b"x" * 4096
    with file.open("wb", buffering=0) as stream, pytest.raises(OSError, match=FULL):
        stream.writelines(block for _ in itertools.count())
    return file


async def test_full_disk_is_said_before_anything_begins(disk: Path) -> None:
    fill(disk)
    state = open_state(disk)
    with pytest.raises(StateError) as caught:
        await record(state, started())
    assert caught.value.message == f"this machine cannot record what it does: {disk}/state.db: {FULL}"
    assert "XDG_STATE_HOME" in caught.value.hint


async def test_disk_that_gets_full_and_has_room_again_loses_nothing(disk: Path) -> None:
    state, filled, told = open_state(disk), fill(disk), [started(), *LINES[:20], SWITCH]
    with state.recorder(RUN) as recorder:
        for envelope in wrapped(*told[:-1]):
            recorder.record(envelope)
        with pytest.raises(StateError, match=FULL):
            await recorder.flush()
        filled.unlink()
        recorder.record(*wrapped(SWITCH, after=21))
        await recorder.flush()
    assert recorder.lost is None
    assert state.events(RUN) == wrapped(*told)


async def test_disk_that_is_full_can_still_be_read(disk: Path) -> None:
    state = open_state(disk)
    await record(state, started(), PUSH)
    folder_of_0_1_0(disk, run_id(1), started(run=run_id(1)))
    fill(disk)
    assert [(run.id, run.verb) for run in state.runs()] == [(RUN, "deploy"), (run_id(1), "deploy")]
    assert [envelope.event for envelope in state.events(RUN)] == [started(), PUSH]
    assert [envelope.event for envelope in state.events(run_id(1))] == [started(run=run_id(1))]


def test_disk_that_cannot_be_written_can_still_be_read_and_its_runs_be_held(disk: Path) -> None:
    state = open_state(disk)
    recorded(state, started())
    with state.hold(RUN):
        pass
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert [run.id for run in state.runs()] == [RUN]
    with state.hold(RUN):
        assert state.is_under_way(RUN)
    with pytest.raises(StateError, match=r"state\.db: it cannot be written"):
        recorded(state, started(run=run_id(1)), run=run_id(1))
    with pytest.raises(StateError, match="Read-only file system"), state.hold(run_id(1)):
        pass


def test_disk_that_cannot_be_written_from_the_first_tells_runs_of_0_1_0(disk: Path) -> None:
    folder_of_0_1_0(disk, RUN, started())
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert [(run.id, run.verb) for run in open_state(disk).runs()] == [(RUN, "deploy")]


LIMITED = """
import asyncio, resource, sys; from pathlib import Path
from fleet.errors import StateError
from tests.unit.state_builders import open_state
from tests.unit.state_builders import record, started
from tests.unit.test_state_disk import LINES
resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, 64 << 10))
try:
    asyncio.run(record(open_state(Path(sys.argv[1])), started(), *LINES))
except StateError as error:
    print(error.message)
"""


def test_file_that_may_not_grow_is_said_too(tmp_path: Path) -> None:
    with python(LIMITED, tmp_path) as other:
        told = said(other)
    assert told.startswith(f"this machine cannot record what it does: {tmp_path}/state.db: ")


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4096] + b"\xa5" * (path.stat().st_size - 4096))


def no_database(path: Path) -> None:
    path.write_text("this is a letter, and no database at all\n" * 100)


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE songs (name TEXT)")


def without_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DELETE FROM meta")


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE meta SET value = '99'")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BROKEN = [
    pytest.param(damaged, "it is damaged", "move it", id="damaged"),
    pytest.param(no_database, "it is no database", "move it", id="no database"),
    pytest.param(foreign, "none of them is fleet's", "move it", id="foreign"),
    pytest.param(without_version, "of which version", "move it", id="without a version"),
    pytest.param(newer, r"a newer fleet has made it \(version 99; this one knows \d+\)", "run that one", id="newer"),
    pytest.param(folder, "cannot be opened", "XDG_STATE_HOME", id="a folder"),
]


@pytest.mark.parametrize(("breaks", "why", "remedy"), BROKEN)
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda state: state.runs(), id="runs"),
        pytest.param(lambda state: state.run(RUN), id="run"),
        pytest.param(lambda state: state.events(RUN), id="events"),
        pytest.param(lambda state: state.plans(), id="plans"),
        pytest.param(lambda state: state.plan("1f3c"), id="plan"),
        pytest.param(lambda state: state.keep_plan("1f3c", "text", expires=2e9), id="keep_plan"),
        pytest.param(lambda state: state.tidy(), id="tidy"),
        pytest.param(lambda state: recorded(state, started(verb="resume")), id="record"),
    ],
)
def test_file_that_cannot_be_used_is_named_with_a_remedy(
    tmp_path: Path, breaks: Callable[[Path], None], why: str, remedy: str, use: Callable[[State], object]
) -> None:
    recorded(open_state(tmp_path), started(), *LINES)
    breaks(tmp_path / "state.db")
    with pytest.raises(StateError, match=why) as caught:
        use(open_state(tmp_path))
    assert str(tmp_path / "state.db") in caught.value.message
    assert remedy in caught.value.hint


@pytest.mark.parametrize("breaks", [case.values[0] for case in BROKEN])
def test_file_that_cannot_be_used_stops_nobody_from_taking_up_a_run(
    tmp_path: Path, breaks: Callable[[Path], None]
) -> None:
    state = open_state(tmp_path)
    recorded(state, started(), *LINES)
    folder_of_today(state, *wrapped(started(), *LINES, SWITCH))
    breaks(tmp_path / "state.db")
    (run,) = state.runs_in_folders()
    assert (run.id, run.is_open, run.last_seq) == (RUN, True, 52)
    assert state.speeds() == {}
    with state.hold(RUN), state.recorder(RUN) as recorder:
        recorder.record(*wrapped(started(verb="resume"), after=52))
    assert recorder.lost is not None


def test_remedy_for_a_damaged_file_is_one(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    recorded(state, started(), *LINES)
    folder_of_today(state, *wrapped(started(), *LINES, SWITCH))
    damaged(tmp_path / "state.db")
    for name in ("state.db", "state.db-journal"):
        (tmp_path / name).rename(tmp_path / f"{name}.damaged")
    (run,) = open_state(tmp_path).runs()
    assert (run.is_open, run.last_seq) == (True, 52)


async def test_file_that_somebody_replaces_amid_a_run_is_not_taken_for_it(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    folder_of_today(state, *wrapped(started(), SWITCH))
    with state.recorder(RUN) as recorder:
        recorder.record(*wrapped(started()))
        await recorder.flush()
        (tmp_path / "state.db").unlink()
        recorder.record(*wrapped(SWITCH, after=1))
        with pytest.raises(StateError, match="replaced"):
            await recorder.flush()
    assert state.runs()[0].hosts[WEB].begun


def test_file_that_another_process_keeps_locked_is_waited_for(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    recorded(state, started())
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        async def tell() -> None:
            with state.recorder(RUN) as recorder:
                recorder.record(*wrapped(started(verb="resume"), after=1))
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(recorder.flush(), timeout=0.2)
                other.execute("COMMIT")
                await recorder.flush()

        asyncio.run(tell())
    assert len(state.events(RUN)) == 2


def test_file_is_synced_at_each_commit_and_has_no_write_ahead_log(tmp_path: Path) -> None:
    from fleet.state.sqlite import SqliteDatabase

    with closing(sqlite3.connect(tmp_path / "state.db")) as other:
        other.execute("PRAGMA journal_mode=WAL")  # by some other program
    database = SqliteDatabase(tmp_path / "state.db")
    with database.writing() as connection:
        # A journal that is deleted is not synced (pager.c: xDelete with syncDir only for EXTRA); truncating it is.
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("truncate",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    recorded(open_state(tmp_path), started())
    with closing(sqlite3.connect(tmp_path / "state.db")) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_table_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(open_state(tmp_path), started(), SWITCH)
    more = ("CREATE TABLE songs (name TEXT)", "INSERT INTO songs VALUES ('la')")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, more))
    assert open_state(tmp_path).runs()[0].hosts[WEB].begun
    with closing(sqlite3.connect(tmp_path / "state.db")) as other:
        assert other.execute("SELECT name FROM songs").fetchall() == [("la",)]
        assert other.execute("SELECT value FROM meta").fetchall() == [(str(len(schema.MIGRATIONS)),)]


def test_bringing_up_to_date_that_fails_leaves_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(open_state(tmp_path), started())
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE songs (name TEXT)", "CREATE nonsense")))
        with pytest.raises(StateError, match="nonsense"):
            open_state(tmp_path).runs()
    assert len(open_state(tmp_path).runs()) == 1
    with closing(sqlite3.connect(tmp_path / "state.db")) as other:
        assert other.execute("SELECT name FROM sqlite_master WHERE name = 'songs'").fetchall() == []
