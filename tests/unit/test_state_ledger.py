"""The ledger on the disk: added to by many, waited for by nobody who goes back, and honest about what is gone."""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from fleet.errors import StateError
from fleet.ledger import Head, Kind
from fleet.ledger.chain import How, against_note, parse, read_chain
from fleet.ledger.entries import written
from fleet.model import Outcome, Verb
from fleet.state import Entered, State
from fleet.state.ledgers import LATE
from tests.unit.ledgers import RUN as LEDGER_RUN
from tests.unit.ledgers import entry, in_database
from tests.unit.state_builders import (
    DB,
    RUN,
    WEB,
    ended,
    finished,
    in_files,
    open_state,
    python,
    record,
    result,
    said,
    started,
    wrapped,
)
from tests.unit.test_state_disk import FULL, disk, fill

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet.ledger.chain import Chain

pytestmark = pytest.mark.usefixtures("kept")
__all__ = ["disk"]
APPROVAL = entry(Kind.APPROVAL, plan="a" * 64)


def chain(state: State) -> Chain:
    kept = state.ledger.read()
    return against_note(read_chain(kept.lines), kept.noted)


def told(state: State) -> list[str]:
    """The kinds of all entries, of a ledger that is right."""
    kept = state.ledger.read()
    assert chain(state).wrong is None
    bodies = [parse(line) for _, line in kept.lines]
    return [body["kind"] for body in bodies if body is not None]


def test_first_entry_opens_the_ledger(tmp_path: Path) -> None:
    state = open_state(tmp_path / "home")
    assert (state.ledger.noted(), list(state.ledger.read().lines)) == (None, [])
    assert not (tmp_path / "home").exists()  # nothing is made by looking
    head = state.ledger.enter(APPROVAL)
    assert told(state) == ["opened", "approval"]
    assert (head, head.size) == (state.ledger.noted(), 2)
    body = parse(state.ledger.read().lines[0][1])
    assert body is not None
    assert (body["ledger"], body["fleet"], body["by"]) == (head.ledger, "home", "ann")


def test_two_states_have_two_ledgers(tmp_path: Path) -> None:
    heads = [open_state(tmp_path / name).ledger.enter(APPROVAL) for name in ("a", "b")]
    assert heads[0].ledger != heads[1].ledger


@in_files
def test_entries_are_added_together_or_not_at_all(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    head = state.ledger.enter(APPROVAL)
    refuse = "CREATE TRIGGER refuse BEFORE INSERT ON ledger WHEN NEW.entry = 4 BEGIN SELECT RAISE(ABORT, 'no'); END"
    in_database(tmp_path, (refuse, ()))
    state.ledger.enter_later(APPROVAL)
    with pytest.raises(StateError, match="no"):
        state.ledger.enter(APPROVAL)
    assert (len(state.ledger.read().lines), state.ledger.noted(), state.ledger.kept_for_later()) == (2, head, 1)


def test_entries_that_somebody_has_put_behind_the_last_stop_nobody_and_stay_wrong(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    head = state.ledger.enter(APPROVAL)
    line, _ = written(APPROVAL, 3, head.hash)
    in_database(tmp_path, ("INSERT INTO ledger VALUES (3, ?)", (line,)))
    for how in (How.ADDED, How.REWRITTEN):
        found = chain(state).wrong
        assert found is not None
        assert (found.entry, found.how) == (3, how)
        state.ledger.enter(APPROVAL)


def test_file_of_entries_that_cannot_be_read_now_is_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = open_state(tmp_path)
    state.ledger.enter_later(APPROVAL)

    def fail(*_: object, **__: object) -> bytes:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("fleet.state.ledgers.read_file", fail)
        state.ledger.enter(APPROVAL)
    assert state.ledger.kept_for_later() == 1
    state.ledger.enter()
    assert told(state) == ["opened", "approval", "approval"]


ENTER = """
import sys; from pathlib import Path
from fleet.ledger import Kind
from tests.unit.state_builders import open_state
from tests.unit.ledgers import entry

state = open_state(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    if number % 5 == 0:
        state.ledger.enter_later(entry(Kind.BREAK_GLASS, by=sys.argv[2], why=str(number)))
    else:
        state.ledger.enter(entry(Kind.APPROVAL, by=sys.argv[2], plan=str(number)))
"""


def test_processes_that_add_at_once_make_one_chain(tmp_path: Path) -> None:
    with ExitStack() as stack:
        others = [stack.enter_context(python(ENTER, tmp_path, name, 25)) for name in ("ann", "bob", "cy")]
        for other in others:
            assert said(other) == "ready"
        for other in others:
            assert other.stdin is not None
            other.stdin.write("\n")
            other.stdin.flush()
        for other in others:
            other.communicate()
            assert other.returncode == 0
    state = open_state(tmp_path)
    state.ledger.enter()
    assert sorted(told(state)) == ["approval"] * 60 + ["break_glass"] * 15 + ["opened"]
    bodies = [parse(line) for _, line in state.ledger.read().lines]
    for name in ("ann", "bob", "cy"):
        own = [body["plan"] for body in bodies if body and body["by"] == name and body["kind"] == "approval"]
        assert own == [str(number) for number in range(25) if number % 5]


@in_files
def test_full_disk_is_said_before_anything_begins(disk: Path) -> None:
    fill(disk)
    with pytest.raises(StateError, match=FULL):
        open_state(disk).ledger.enter(APPROVAL)
    assert not open_state(disk).ledger.enter_later(APPROVAL)


@in_files
def test_full_disk_keeps_the_chain_whole(disk: Path) -> None:
    state = open_state(disk)
    head = state.ledger.enter(APPROVAL)
    filled = fill(disk)
    full = ""
    while not full:
        try:
            head = state.ledger.enter(entry(Kind.RESULT, why="x" * 400))
        except StateError as error:
            full = error.message
    assert FULL in full
    assert (chain(state).wrong, chain(state).head) == (None, head)
    filled.unlink()
    state.ledger.enter(APPROVAL)
    assert told(state)[-1] == "approval"


@in_files
def test_who_goes_back_waits_for_no_database(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    state.ledger.enter(APPROVAL)
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        assert state.ledger.enter_later(entry(Kind.BEGIN, run=LEDGER_RUN, hosts=("web-1",)))
        assert state.ledger.enter_later(entry(Kind.COMMIT, run=LEDGER_RUN, host="web-1"))
        assert time.monotonic() - began < 5  # the patience with a locked database is 30 s
        assert state.ledger.kept_for_later() == 2
        other.execute("ROLLBACK")
    state.ledger.enter(entry(Kind.END, run=LEDGER_RUN))
    assert told(state) == ["opened", "approval", "begin", "commit", "end"]
    assert state.ledger.kept_for_later() == 0
    late = [bool(body and body.get("late")) for body in (parse(line) for _, line in state.ledger.read().lines)]
    assert late == [False, False, True, True, False]


def test_what_comes_late_keeps_its_time_and_its_words(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    state.ledger.enter_later(entry(Kind.BREAK_GLASS, by="J\u00f6rg", at=1, rule="ask", hosts=("a", "b")))
    assert (tmp_path / LATE).stat().st_mode & 0o777 == 0o700
    state.ledger.enter()
    body = parse(state.ledger.read().lines[-1][1])
    assert body is not None
    assert (body["by"], body["at"], body["rule"], body["hosts"]) == ("J\u00f6rg", 1, "ask", ["a", "b"])


def test_file_that_was_not_removed_is_not_entered_again(tmp_path: Path) -> None:
    """As when the process is killed after the commit."""
    state = open_state(tmp_path)
    state.ledger.enter_later(APPROVAL, APPROVAL)
    (file,) = (tmp_path / LATE).iterdir()
    text = file.read_bytes()
    state.ledger.enter()
    assert not file.exists()
    file.write_bytes(text)
    state.ledger.enter()
    assert told(state) == ["opened", "approval", "approval"]
    assert not file.exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '[{"kind":"x","by":"","from":"","at":1,"values":{}}]', '{"a":1}', "[" * 9999]
)
def test_file_that_cannot_be_read_stops_nobody_and_is_told(tmp_path: Path, text: str) -> None:
    state = open_state(tmp_path)
    state.ledger.enter_later(APPROVAL)
    (file,) = (tmp_path / LATE).iterdir()
    file.write_text(text)
    state.ledger.enter(APPROVAL)
    assert told(state) == ["opened", "approval"]
    assert [path.name for path in state.ledger.put_aside()] == [f"{file.name}.unreadable"]


async def test_ends_of_hosts_and_of_the_run_are_stored_together_with_their_entries(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    other = entry(Kind.BEGIN, run=RUN, hosts=(WEB, DB))
    state.ledger.enter(other)
    events = [
        started(WEB, DB), ended(Outcome.KEPT), ended(Outcome.ROLLED_BACK, "unhealthy", DB),
        ended(Outcome.UNCHANGED, host=type(WEB)("pi")), finished(result(Outcome.KEPT), exit_code=1),
    ]  # fmt: skip
    entered = Entered("desk", Verb.DEPLOY)
    entered.begin({WEB, DB})
    with state.recorder(RUN, entered=entered) as recorder:
        for envelope in wrapped(*events):
            recorder.record(envelope)
            await recorder.flush()
    assert told(state) == ["opened", "begin", "result", "revert", "end"]  # of the host that was not begun, nothing
    assert chain(state).begun == {}
    assert len(state.events(RUN)) == len(events)


async def test_run_that_has_not_begun_is_not_entered(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    with state.recorder(RUN, entered=Entered("desk", Verb.DEPLOY)) as recorder:
        for envelope in wrapped(started(), ended(Outcome.SKIPPED), finished()):
            recorder.record(envelope)
    assert state.ledger.noted() is None


def test_plan_is_entered_once_with_its_text(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    for _ in range(2):
        state.keep_plan("1f3c", "text", expires=2e9, entry=entry(Kind.PLAN, plan="1f3c"))
    assert told(state) == ["opened", "plan"]


def cut(folder: Path, size: int) -> None:
    in_database(folder, ("DELETE FROM ledger WHERE entry > ?", (size,)))


@pytest.mark.parametrize("note", ["kept", "taken away", "nonsense"])
def test_ledger_that_was_cut_can_be_added_to_and_stays_wrong(tmp_path: Path, note: str) -> None:
    """Nobody can stop deployments by cutting it, or hide the cut behind the next deployment."""
    state = open_state(tmp_path)
    for _ in range(4):
        state.ledger.enter(APPROVAL)
    cut(tmp_path, 3)
    if note == "taken away":
        in_database(tmp_path, ("DELETE FROM meta WHERE \"key\" = 'ledger'", ()))
    if note == "nonsense":
        in_database(tmp_path, ("UPDATE meta SET value = 'x' WHERE key = 'ledger'", ()))
    found = chain(state).wrong
    assert found is not None
    assert (found.entry, found.how) == (4, How.CUT)
    state.ledger.enter(APPROVAL)
    after = chain(state).wrong
    if note == "kept":
        assert after is not None
        assert (after.entry, after.how) == (4, How.MISSING)
    else:  # only who has seen entry 5 can tell
        assert (after, state.ledger.noted() and state.ledger.noted().size) == (None, 4)  # type: ignore[union-attr]


@pytest.mark.parametrize("line", ["nonsense", "{}", "\x01", "[" * 9999])
def test_ledger_whose_lines_are_nonsense_can_be_added_to(tmp_path: Path, line: str) -> None:
    state = open_state(tmp_path)
    state.ledger.enter(APPROVAL)
    in_database(tmp_path, ("UPDATE ledger SET line = ?", (line,)), ("DELETE FROM meta WHERE \"key\" = 'ledger'", ()))
    assert state.ledger.enter(APPROVAL) == Head("0" * 32, 3, state.ledger.noted().hash)  # type: ignore[union-attr]
    found = chain(state).wrong
    assert found is not None
    assert (found.entry, found.how) == (1, How.CHANGED)


def entries_of(state: State) -> Sequence[str]:
    return [line for _, line in state.ledger.read().lines]


async def test_run_that_is_forgotten_does_not_stay_unfinished_for_ever(tmp_path: Path) -> None:
    """It was cut short before it had touched anything, and is too old to be taken up."""
    state = open_state(tmp_path)
    state.ledger.enter(entry(Kind.BEGIN, run="20260101T000000-aaaaaa", hosts=(WEB,)))
    old = type(RUN)("20260101T000000-aaaaaa")
    await record(state, started(run=old), run=old)
    for number in range(21):
        await record(state, started(), finished(), run=type(RUN)(f"20261120T0422{number:02}-bbbbbb"))
    assert chain(state).begun
    assert old in state.tidy().runs
    assert chain(state).begun == {}
    assert told(state)[-2:] == ["result", "end"]
