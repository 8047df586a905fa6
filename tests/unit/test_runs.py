"""What the controller remembers: old runs go, those under way stay."""

from __future__ import annotations

import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fleet import runs
from fleet.errors import ConfigError
from fleet.model import RunId

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys; from pathlib import Path; from fleet import runs
runs.new_run_folder(Path(sys.argv[1]), "00000000T000000-000000", is_open=bool)
print("held", flush=True); sys.stdin.read()
"""


def none(_: Path) -> bool:
    return False


def test_oldest_runs_go_and_the_newest_stay(tmp_path: Path) -> None:
    for number in range(runs.KEEP + 3):
        (tmp_path / f"runs/2026{number:04}").mkdir(parents=True)
    newest = runs.new_run_folder(tmp_path, RunId("2027"), is_open=none)
    assert newest.is_dir()
    assert sorted(path.name for path in newest.parent.iterdir()) == [
        *(f"2026{number:04}" for number in range(4, runs.KEEP + 3)),
        "2027",
    ]


def test_builds_do_not_push_out_what_was_deployed(tmp_path: Path) -> None:
    for number in range(runs.KEEP):
        folder = tmp_path / f"runs/2025{number:04}"
        folder.mkdir(parents=True)
        (folder / runs.EVENTS).write_text("")
        (tmp_path / f"runs/2026{number:04}").mkdir()
    runs.new_run_folder(tmp_path, RunId("2027"), is_open=none)
    left = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert left == [
        *(f"2025{number:04}" for number in range(runs.KEEP)),
        *(f"2026{number:04}" for number in range(1, runs.KEEP)),
        "2027",
    ]


def test_run_that_is_open_outlives_any_number_of_runs(tmp_path: Path) -> None:
    for number in range(runs.KEEP + 3):
        (tmp_path / f"runs/2026{number:04}").mkdir(parents=True)
    runs.new_run_folder(tmp_path, RunId("2027"), is_open=lambda folder: folder.name == "20260001")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir())[:2] == ["20260001", "20260004"]


def test_folder_of_a_run_is_for_nobody_else_to_read(tmp_path: Path) -> None:
    assert stat.S_IMODE(runs.new_run_folder(tmp_path, RunId("1"), is_open=none).stat().st_mode) == 0o700


def test_run_under_way_keeps_its_folder_and_with_it_the_roots_of_what_it_built(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        for number in range(runs.KEEP + 1):
            runs.new_run_folder(tmp_path, RunId(f"2026{number:04}"), is_open=none)
        folder = tmp_path / "runs/00000000T000000-000000"
        assert folder.is_dir()
        assert runs.is_under_way(folder)
        with pytest.raises(ConfigError, match="still under way"), runs.taken_up(folder):
            pass
        other.communicate()
    assert not runs.is_under_way(folder)
    runs.new_run_folder(tmp_path, RunId("2027"), is_open=none)
    assert not (tmp_path / "runs/00000000T000000-000000").exists()


def test_place_that_cannot_be_written_says_where_to_go(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(ConfigError) as caught:
        runs.new_run_folder(tmp_path, RunId("1"), is_open=none)
    assert "XDG_STATE_HOME" in caught.value.hint
