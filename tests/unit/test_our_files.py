"""The files that fleet keeps: where, and that one is whole at any time."""

from __future__ import annotations

import os
import re
import stat
import threading
from pathlib import Path

import pytest

from fleet.files import alone_in, cache_folder, replace_file, state_folder


def test_folders_are_where_people_keep_theirs(home: Path) -> None:
    assert str(cache_folder("deltas", {"XDG_CACHE_HOME": "/c"})) == "/c/fleet/deltas"
    assert str(state_folder("home", {"XDG_STATE_HOME": "/s"})) == "/s/fleet/home"
    for said in ({}, {"XDG_CACHE_HOME": "", "XDG_STATE_HOME": ""}, {"XDG_CACHE_HOME": "c", "XDG_STATE_HOME": "./s"}):
        assert cache_folder("deltas", said) == home / ".cache/fleet/deltas"
        assert state_folder("home", said) == home / ".local/state/fleet/home"


@pytest.mark.parametrize("durable", [True, False])
def test_file_is_replaced_as_a_whole(tmp_path: Path, durable: bool) -> None:  # noqa: FBT001
    file = tmp_path / "file"
    file.write_bytes(b"before, and longer")
    with file.open("rb") as reader:
        replace_file(file, b"after", mode=0o640, durable=durable)
        assert reader.read() == b"before, and longer"
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"after", 0o640)
    replace_file(tmp_path / "new", b"")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "new"]


def test_file_that_cannot_be_replaced_is_as_before_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        replace_file(file, b"after", durable=True)
    assert [(one, one.read_bytes()) for one in tmp_path.iterdir()] == [(file, b"before")]


def test_one_at_a_time_is_in_a_folder(tmp_path: Path) -> None:
    told: list[str] = []

    def other() -> None:
        with alone_in(tmp_path):
            told.append("other")

    waiting = threading.Thread(target=other)
    with alone_in(tmp_path):
        waiting.start()
        waiting.join(0.05)
        told.append("first")
    waiting.join()
    assert told == ["first", "other"]


def test_sources_have_no_control_characters() -> None:
    """A backspace in place of its escape looks the same in most editors, and is another text."""
    here = Path(__file__).parents[2]
    found = [
        f"{path.relative_to(here)}: {bad!r}"
        for folder in ("fleet", "tests", "modules", "docs")
        for path in (here / folder).rglob("*")
        if path.suffix in (".py", ".sh", ".nix", ".md", ".toml")
        for bad in set(re.findall(rb"[\x00-\x08\x0b-\x1f\x7f]", path.read_bytes()))
    ]
    assert found == []
