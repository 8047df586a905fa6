"""Which commit a flake was evaluated at."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from fleet.machine.local import LocalMachine
from fleet.plans import Source
from fleet.source.revision import source_of
from tests.fakes import FakeMachine
from tests.tools import git

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not there")


@pytest.fixture
def flake(tmp_path: Path) -> Path:
    """A flake in git, before its first commit."""
    (tmp_path / "flake.nix").write_text("{ }")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    return tmp_path


def commit(flake: Path) -> str:
    git(flake, "commit", "-q", "-m", "x")
    return git(flake, "rev-parse", "HEAD")


async def test_commit_of_a_clean_tree_is_told(flake: Path) -> None:
    revision = commit(flake)
    (flake / "notes.txt").write_text("Nix does not see this")
    assert await source_of(LocalMachine(), str(flake)) == Source(reference=str(flake), revision=revision, is_clean=True)


@pytest.mark.parametrize("is_staged", [False, True])
async def test_tree_that_differs_from_its_commit_is_not_clean(flake: Path, *, is_staged: bool) -> None:
    revision = commit(flake)
    (flake / "flake.nix").write_text("{ x = 1; }")
    if is_staged:
        git(flake, "add", ".")
    found = await source_of(LocalMachine(), str(flake))
    assert (found.revision, found.is_clean) == (revision, False)


async def test_folder_below_the_top_of_a_tree_has_its_commit_too(flake: Path) -> None:
    (flake / "systems").mkdir()
    (flake / "systems" / "flake.nix").write_text("{ }")
    git(flake, "add", ".")
    revision = commit(flake)
    found = await source_of(LocalMachine(), str(flake / "systems"))
    assert (found.revision, found.is_clean) == (revision, True)


async def test_tree_before_its_first_commit_has_none(flake: Path) -> None:
    assert await source_of(LocalMachine(), str(flake)) == Source(reference=str(flake))


async def test_folder_that_is_not_in_git_has_no_commit(tmp_path: Path) -> None:
    assert await source_of(LocalMachine(), f"path:{tmp_path}") == Source(reference=f"path:{tmp_path}")


async def test_flake_elsewhere_is_not_looked_at() -> None:
    assert await source_of(FakeMachine(), "github:ann/home") == Source(reference="github:ann/home")
