"""The cache of evaluations: what it gives back, and what it forgives."""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import pytest

from fleet.model import Closure, Derivation
from fleet.source.evaluations import KEEP, Evaluations, users_own

if TYPE_CHECKING:
    from pathlib import Path


def pair(name: str) -> tuple[Derivation, Closure]:
    path = f"/nix/store/{'0' * 32}-{name}"
    return Derivation(f"{path}.drv"), Closure(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the cache is, once something is remembered."""
    return tmp_path / "new" / "evaluations"


@pytest.fixture
def cache(folder: Path) -> Evaluations:
    return Evaluations(folder)


def test_who_runs_this_has_it_in_their_cache(home: Path) -> None:
    users_own().remember("one", {"a": pair("a")})
    assert [file.name for file in (home / ".cache/fleet/evaluations").iterdir()] == ["one.json"]


def test_what_was_remembered_is_recalled_for_that_snapshot_only(cache: Evaluations) -> None:
    assert cache.recall("one") == {}
    cache.remember("one", {"a": pair("a")})
    cache.remember("one", {"b": pair("b")})
    assert cache.recall("one") == {"a": pair("a"), "b": pair("b")}
    assert cache.recall("two") == {}


BAD = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe",
    "another kind": b"[]",
    "a number": b"1",
    "another key": b"{}",
    "no object": b'{"evaluated": []}',
    "no pair": b'{"evaluated": {"a": "x"}}',
    "three": b'{"evaluated": {"a": ["x", "y", "z"]}}',
    "numbers": b'{"evaluated": {"a": [1, 2]}}',
    "no store paths": b'{"evaluated": {"a": ["/etc/passwd.drv", "/etc/passwd"]}}',
    "no derivation": json.dumps({"evaluated": {"a": [pair("a")[1]] * 2}}).encode(),
    "cut off": json.dumps({"evaluated": {"a": pair("a")}}).encode()[:-9],
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_file_that_is_not_ours_counts_for_nothing_and_is_replaced(
    folder: Path, cache: Evaluations, text: bytes
) -> None:
    cache.remember("one", {"a": pair("a")})
    (file,) = folder.glob("*.json")
    file.write_bytes(text)
    assert cache.recall("one") == {}
    cache.remember("one", {"b": pair("b")})
    assert cache.recall("one") == {"b": pair("b")}


def test_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Evaluations(tmp_path / "file" / "evaluations")
    cache.remember("one", {"a": pair("a")})
    assert cache.recall("one") == {}


def test_snapshots_that_were_not_used_for_long_are_forgotten(folder: Path, cache: Evaluations) -> None:
    for number in range(KEEP):
        cache.remember(f"s{number}", {"a": pair("a")})
        os.utime(folder / f"s{number}.json", (number, number))
    assert cache.recall("s0") == {"a": pair("a")}
    cache.remember("new", {"a": pair("a")})
    assert len(list(folder.iterdir())) == KEEP
    assert [bool(cache.recall(name)) for name in ("s0", "s1", "s2", "new")] == [True, False, True, True]


def test_other_users_cannot_read_it(folder: Path, cache: Evaluations) -> None:
    cache.remember("one", {"a": pair("a")})
    assert folder.stat().st_mode & 0o077 == 0


def _remember(folder: Path, number: int) -> None:
    for host in range(5):
        Evaluations(folder).remember("one", {f"{number}-{host}": pair("x")})


def test_controllers_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_remember, [tmp_path] * 4, range(4)))
    assert len(Evaluations(tmp_path).recall("one")) == 20
    assert [file.name for file in tmp_path.iterdir()] == ["one.json"]
