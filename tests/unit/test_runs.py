"""What the controller remembers of its runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fleet.deploy.request import Request, new_run_id
from fleet.errors import ConfigError
from fleet.model import RunId
from fleet.runs import KEEP, new_run_folder, state_folder
from tests.unit import builders


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"XDG_STATE_HOME": "/state"}, "/state/fleet/home"),
        ({"XDG_STATE_HOME": "relative"}, "~/.local/state/fleet/home"),
        ({"XDG_STATE_HOME": ""}, "~/.local/state/fleet/home"),
        ({}, "~/.local/state/fleet/home"),
    ],
)
def test_state_is_where_people_expect_it(environment: dict[str, str], folder: str) -> None:
    assert state_folder("home", environment) == Path(folder).expanduser()


def test_only_the_newest_runs_are_kept(tmp_path: Path) -> None:
    for number in range(KEEP + 5):
        folder = new_run_folder(tmp_path, RunId(f"2026-{number:03}"))
        (folder / "events.jsonl").write_text("")
    kept = sorted(folder.name for folder in (tmp_path / "runs").iterdir())
    assert kept == [f"2026-{number:03}" for number in range(5, KEEP + 5)]


def test_foreign_file_among_the_runs_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/0-notes").write_text("mine")
    for number in range(KEEP + 1):
        new_run_folder(tmp_path, RunId(f"2026-{number:03}"))
    assert (tmp_path / "runs/0-notes").exists()


def test_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(ConfigError, match="cannot be made") as caught:
        new_run_folder(tmp_path, RunId("r1"))
    assert "XDG_STATE_HOME" in caught.value.hint


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    new_run_folder(tmp_path, RunId("r1"))
    with pytest.raises(ConfigError):
        new_run_folder(tmp_path, RunId("r1"))


def test_run_ids_sort_by_time_and_differ() -> None:
    ids = [new_run_id() for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{6}", one) for one in ids)
    assert [one[:15] for one in ids] == sorted(one[:15] for one in ids)


@pytest.mark.parametrize(
    ("request_", "proves"),
    [
        ({"verb": "deploy"}, True),
        ({"verb": "rollback"}, False),
        ({"verb": "rollback", "strict": True}, True),
    ],
)
def test_checks_do_not_stop_people_who_go_back(request_: dict[str, Any], proves: bool) -> None:  # noqa: FBT001
    assert Request(**request_).proves_checks is proves


def test_run_knows_who_asked_and_from_where(monkeypatch: pytest.MonkeyPatch) -> None:
    from fleet.deploy.request import Run

    def nobody() -> str:
        raise KeyError("uid not found")

    usual = builders.run()
    shared = {name: getattr(usual, name) for name in ("id", "request", "inventory", "logins", "here", "emit", "folder")}
    monkeypatch.setattr("getpass.getuser", nobody)
    run = Run(**shared)
    assert run.who == "unknown"
    assert run.origin
