"""What a machine has remembered by itself comes to a database that machines share: all of it, once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from fleet.cli import run
from fleet.errors import ConfigError, StateError
from fleet.files import state_folder
from fleet.ledger import Kind
from fleet.ledger.chain import against_note, read_chain
from fleet.state import Asked, BaselineRecord, SeenRecord, State
from fleet.state import open_state as open_at
from fleet.state.database import NoDatabase
from fleet.state.moving import TABLES, import_state
from tests.unit.ledgers import entry
from tests.unit.state_builders import (
    RUN,
    SWITCH,
    WEB,
    address,
    finished,
    folder_of_0_1_0,
    open_state,
    recorded,
    run_id,
    started,
)
from tests.unit.test_state_store import delivery

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.model import DatabaseAddress

pytestmark = [pytest.mark.usefixtures("kept"), pytest.mark.parametrize("kept", ["postgresql"], indirect=True)]


def database() -> DatabaseAddress:
    found = address()
    assert found is not None
    return found


def filled(folder: Path) -> State:
    """A state in a file that has something of everything."""
    state = open_at(folder)
    recorded(state, started(), SWITCH, plan="1f3c")
    recorded(state, started(run=run_id(1)), finished(run=run_id(1)), run=run_id(1))
    state.keep_plan("1f3c", "text", expires=2e9, entry=entry(Kind.PLAN, plan="1f3c"))
    state.ask(RUN, Asked.PAUSE, by="ann")
    state.remember_seen({WEB: SeenRecord(1.5, "{}")}, known=[WEB])
    state.want([delivery(WEB, "r1")])
    state.keep_baseline(WEB, BaselineRecord(at=1.0, by="ann", body="{}"))
    folder_of_0_1_0(folder, run_id(2), started(run=run_id(2)))
    return state


def everything(state: State) -> list[object]:
    runs = state.runs()
    return [
        runs, [state.events(record.id) for record in runs], state.plans(), state.plan("1f3c"), state.asked(RUN),
        state.seen(), state.deliveries(), state.baseline(WEB), state.ledger.read(),
    ]  # fmt: skip


def test_everything_is_the_same_in_the_database_and_the_ledger_goes_on(tmp_path: Path) -> None:
    before = everything(filled(tmp_path))
    copied = import_state(tmp_path, database())
    assert copied == {
        "runs": 3, "events": 5, "plans": 1, "requests": 1, "seen": 1, "deliveries": 1, "baselines": 1, "ledger": 2,
    }  # fmt: skip
    state = open_state(tmp_path)
    assert everything(state) == before
    assert state.ledger.enter(entry(Kind.APPROVAL, plan="1f3c")).size == 3
    kept = state.ledger.read()
    assert against_note(read_chain(kept.lines), kept.noted).wrong is None
    assert ((tmp_path / "state.db").exists(), (tmp_path / "state.db.moved").exists()) == (False, True)


def test_every_table_and_every_column_is_copied(tmp_path: Path) -> None:
    filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / "state.db")) as other:
        tables = {name for (name,) in other.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert tables == {*TABLES, "meta", "leases", "rollouts", "shares", "workers"}
        for table, columns in TABLES.items():
            assert tuple(row[1] for row in other.execute(f"PRAGMA table_info({table})")) == columns


def test_database_that_remembers_something_already_stays_as_it_is(tmp_path: Path) -> None:
    filled(tmp_path)
    open_state(tmp_path).keep_plan("aa", "another", expires=2e9)
    with pytest.raises(ConfigError, match="remembers something of this fleet already"):
        import_state(tmp_path, database())
    assert (len(open_state(tmp_path).runs()), (tmp_path / "state.db").exists()) == (0, True)


def test_nothing_is_moved_from_under_a_run(tmp_path: Path) -> None:
    state = filled(tmp_path)
    with state.hold(RUN), pytest.raises(ConfigError, match=f"run {RUN} is under way on this machine"):
        import_state(tmp_path, database())
    assert import_state(tmp_path, database())["runs"] == 3


def test_machine_that_has_remembered_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="remembered nothing"):
        import_state(tmp_path, database())


def test_command_moves_the_state_of_the_fleet(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, url = tmp_path / "fleet.toml", str(database())
    text = '[fleet]\nname = "home"\nexpression = "x.nix"\n{}[hosts.web-1]\n'
    file.write_text(text.replace("{}", ""))
    filled(state_folder("home"))
    assert run(["runs", "import", "--file", str(file)]) == 2
    assert "fleet.toml names no database" in capsys.readouterr().err
    file.write_text(text.replace("{}", f'state = "{url}"\n'))
    assert run(["runs", "import", "--file", str(file)]) == 0
    assert f"moved to {url}: 3 runs, 5 events, 1 plans" in capsys.readouterr().err
    assert run(["runs", "--file", str(file)]) == 0
    assert RUN in capsys.readouterr().out


WITHOUT = """
import sys
sys.modules["psycopg"] = None
from fleet.cli import run
sys.exit(run(sys.argv[1:]))
"""


def test_without_the_extra_it_is_said_what_to_install(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(f'[fleet]\nexpression = "x.nix"\nstate = "{database()}"\n[hosts.web-1]\n')
    argv = [sys.executable, "-c", WITHOUT, "runs", "--file", str(file)]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ran.returncode == 0
    assert "warning: [fleet] state names a PostgreSQL database, and psycopg cannot be imported" in ran.stderr
    assert "pip install 'fleet[scale]'" in ran.stderr
    with pytest.raises(StateError, match="psycopg cannot be imported") as caught:
        NoDatabase(StateError("psycopg cannot be imported", hint="pip install")).writing()
    assert caught.value.hint == "pip install"


COUNT = """
import sys
from pathlib import Path
from fleet.cli import run
run(["runs", "--file", sys.argv[1]])
print([name for name in sys.modules if name.partition(".")[0] in ("psycopg", "psycopg_binary")])
"""


def test_who_has_no_database_elsewhere_does_not_load_what_reaches_one(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text('[fleet]\nexpression = "x.nix"\n[hosts.web-1]\n')
    ran = subprocess.run([sys.executable, "-c", COUNT, str(file)], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
