"""Two snapshots with one digest evaluate to the same: what Nix would see differently is another one."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from fleet.machine.local import LocalMachine
from fleet.source import snapshot
from tests.tools import git

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet.source.snapshot import Snapshot

LOCKED: dict[str, object] = {"type": "github", "owner": "o", "repo": "r", "rev": "0" * 40, "narHash": "sha256-x"}


async def taken(flake: Path | str) -> Snapshot:
    found = await snapshot.take(LocalMachine(), str(flake))
    assert found is not None
    return found


async def digest(flake: Path | str) -> str:
    return (await taken(flake)).digest


def write(folder: Path) -> None:
    folder.mkdir()
    (folder / "flake.nix").write_text("{ outputs = _: { }; }")
    (folder / "a.nix").write_text("1")
    (folder / "sub").mkdir()
    (folder / "sub/b.nix").write_text("2")


@pytest.fixture
def repository(tmp_path: Path, home: Path) -> Path:
    """A clean one, with a file that git does not know."""
    folder = tmp_path / "flake"
    write(folder)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    (folder / "untracked.nix").write_text("3")
    return folder


@pytest.fixture
def plain(tmp_path: Path, home: Path) -> Path:
    """A flake in a folder."""
    folder = tmp_path / "plain"
    write(folder)
    return folder


def edit(folder: Path) -> None:
    (folder / "a.nix").write_text("4")


def swap(folder: Path) -> None:
    """Of the same size and time."""
    status = (folder / "a.nix").stat()
    (folder / "a.nix").write_text("5")
    os.utime(folder / "a.nix", ns=(status.st_atime_ns, status.st_mtime_ns))


def link(folder: Path) -> None:
    (folder / "a.nix").unlink()
    (folder / "a.nix").symlink_to("sub/b.nix")


SEEN: dict[str, Callable[[Path], object]] = {
    "another content": edit,
    "another content of the same size and time": swap,
    "a file that is gone": lambda folder: (folder / "sub/b.nix").unlink(),
    "a file that is a program": lambda folder: (folder / "a.nix").chmod(0o755),
    "a file that is a link": link,
}
SEEN_BY_GIT: dict[str, Callable[[Path], object]] = {
    **SEEN,
    "a file that is added": lambda folder: git(folder, "add", "untracked.nix"),
    "a file that is to be added": lambda folder: git(folder, "add", "--intent-to-add", "untracked.nix"),
    "a file that is forgotten": lambda folder: git(folder, "rm", "--cached", "a.nix"),
    "a change that git is to overlook": lambda folder: git(folder, "update-index", "--assume-unchanged", "a.nix"),
    "another commit of the same files": lambda folder: git(folder, "commit", "--allow-empty", "--message", "x"),
}
SEEN_IN_FOLDERS: dict[str, Callable[[Path], object]] = {
    **SEEN,
    "another file": lambda folder: (folder / "untracked.nix").write_text("3"),
    "another folder": lambda folder: (folder / "empty").mkdir(),
    "another time": lambda folder: os.utime(folder / "a.nix", (2_000_000_000, 2_000_000_000)),
}


@pytest.mark.parametrize("change", SEEN_BY_GIT.values(), ids=SEEN_BY_GIT)
async def test_what_nix_sees_in_git_is_another_snapshot(repository: Path, change: Callable[[Path], object]) -> None:
    before = await digest(repository)
    assert await digest(repository) == before
    change(repository)
    assert await digest(repository) != before


@pytest.mark.parametrize("change", SEEN_IN_FOLDERS.values(), ids=SEEN_IN_FOLDERS)
async def test_what_nix_sees_in_a_folder_is_another_snapshot(plain: Path, change: Callable[[Path], object]) -> None:
    before = await digest(plain)
    assert await digest(plain) == before
    change(plain)
    assert await digest(plain) != before


async def test_change_of_a_dirty_file_is_another_snapshot(repository: Path) -> None:
    edit(repository)
    dirty = await digest(repository)
    swap(repository)
    assert await digest(repository) != dirty
    edit(repository)
    assert await digest(repository) == dirty


async def test_file_that_git_does_not_know_does_not_count(repository: Path) -> None:
    before = await digest(repository)
    (repository / "untracked.nix").write_text("other")
    (repository / "more.nix").write_text("other")
    assert await digest(repository) == before


async def test_change_that_was_taken_back_is_another_moment(repository: Path) -> None:
    before = await taken(repository)
    assert await taken(repository) == before
    edit(repository)
    (repository / "a.nix").write_text("1")
    after = await taken(repository)
    assert (after.digest, after.moment != before.moment) == (before.digest, True)


async def test_repository_without_a_commit_has_a_snapshot(plain: Path) -> None:
    git(plain, "init", "--quiet")
    git(plain, "add", ".")
    before = await digest(plain)
    edit(plain)
    assert await digest(plain) != before


async def test_flake_below_the_top_of_its_repository_has_all_of_it(repository: Path) -> None:
    before = await digest(repository / "sub"), await digest(f"{repository}?dir=sub")
    edit(repository)
    after = await digest(repository / "sub"), await digest(f"{repository}?dir=sub")
    assert all(one != other for one, other in zip(before, after, strict=True))


async def test_each_nix_has_its_own(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await digest(repository)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nix").write_text("#!/bin/sh\necho 'nix (Nix) 99.9'\n")
    (tmp_path / "bin/nix").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert await digest(repository) != before


def lock(folder: Path, locked: dict[str, object], **more: object) -> None:
    nodes = {"root": {"inputs": {"x": "x"}}, "x": {"locked": locked, "original": {}, **more}}
    (folder / "flake.lock").write_text(json.dumps({"nodes": nodes, "root": "root", "version": 7}))


async def test_locked_inputs_count_with_the_lock_file(plain: Path) -> None:
    lock(plain, LOCKED)
    before = await digest(plain)
    lock(plain, {**LOCKED, "rev": "1" * 40})
    assert await digest(plain) != before


OPEN: dict[str, dict[str, object]] = {
    "not locked": {"type": "github", "owner": "o", "repo": "r"},
    "dirty": {**LOCKED, "dirtyRev": "0" * 40 + "-dirty"},
    "a folder": {"type": "path", "path": "/home/me/x", "narHash": "sha256-x"},
    "a repository of this machine": {"type": "git", "url": "file:///home/me/x", "rev": "0" * 40},
}


@pytest.mark.parametrize("locked", OPEN.values(), ids=OPEN)
async def test_inputs_that_may_change_by_themselves_have_no_snapshot(plain: Path, locked: dict[str, object]) -> None:
    lock(plain, locked)
    assert await snapshot.take(LocalMachine(), str(plain)) is None


async def test_lock_file_that_cannot_be_read_has_no_snapshot(plain: Path) -> None:
    (plain / "flake.lock").write_text("{")
    assert await snapshot.take(LocalMachine(), str(plain)) is None


async def test_submodules_have_no_snapshot(repository: Path) -> None:
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    assert await snapshot.take(LocalMachine(), str(repository)) is None


async def test_flake_that_is_elsewhere_has_no_snapshot(repository: Path) -> None:
    ways = [f"{repository}?ref=main", f"{repository}?dir=sub&submodules=1", f"path:{repository}", "github:o/r"]
    for flake in [*ways, f"git+file://{repository}", "/no/such/folder", "nixpkgs"]:
        assert await snapshot.take(LocalMachine(), flake) is None


async def test_folder_that_cannot_be_read_has_no_snapshot(plain: Path) -> None:
    os.mkfifo(plain / "pipe")
    assert await snapshot.take(LocalMachine(), str(plain)) is None


async def test_repository_that_git_cannot_read_has_no_snapshot(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nix").write_text("#!/bin/sh\necho 'nix (Nix) 2.31.2'\n")
    (tmp_path / "bin/nix").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    assert [await snapshot.take(LocalMachine(), str(repository / sub)) for sub in ("", "sub")] == [None, None]
    assert await snapshot.take(LocalMachine(), f"path:{repository}/sub") is not None
