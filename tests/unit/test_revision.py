"""Which commit a flake was evaluated at."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from fleet.errors import ConfigError
from fleet.machine.local import LocalMachine
from fleet.plans import Source
from fleet.source.revision import at_commit, source_of, strays
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


@pytest.mark.parametrize("name", ["proposal", "origin/proposal", "v2", "short"])
async def test_flake_at_another_commit_is_that_commit_whatever_is_checked_out(flake: Path, name: str) -> None:
    commit(flake)
    git(flake, "checkout", "-q", "-b", "proposal")
    (flake / "flake.nix").write_text("{ x = 1; }")
    git(flake, "add", ".")
    proposed = commit(flake)
    git(flake, "tag", "v2")
    git(flake, "update-ref", "refs/remotes/origin/proposal", proposed)
    git(flake, "checkout", "-q", "-")
    (flake / "flake.nix").write_text("{ dirty = 1; }")
    found = await at_commit(LocalMachine(), str(flake), proposed[:9] if name == "short" else name)
    assert found.source == Source(reference=str(flake), revision=proposed, is_clean=True)
    assert found.flake == f"git+file://{flake}?rev={proposed}&allRefs=1"


async def test_folder_of_a_flake_at_another_commit_is_kept(flake: Path) -> None:
    (flake / "our systems" / "more").mkdir(parents=True)
    revision = commit(flake)
    place = f"{flake}/our systems?dir=more&submodules=1"
    found = await at_commit(LocalMachine(), place, "HEAD")
    assert found.flake.endswith(f"?submodules=1&rev={revision}&allRefs=1&dir=our+systems%2Fmore")


@pytest.mark.parametrize("revision", ["nothing", "--output=x", "HEAD:flake.nix", "0" * 40, "HEAD^{tree}"])
async def test_what_is_no_commit_is_told_with_the_remedy(flake: Path, revision: str) -> None:
    commit(flake)
    with pytest.raises(ConfigError, match="is no branch, tag or commit in") as caught:
        await at_commit(LocalMachine(), str(flake), revision)
    assert f"git -C {flake} fetch --all" in (caught.value.hint or "")


@pytest.mark.parametrize("reference", ["github:ann/fleet", "path:/tmp", "file:/etc/default.nix", "/nowhere"])
async def test_flake_without_commits_here_has_no_other_revision(reference: str) -> None:
    with pytest.raises(ConfigError, match="has no commits here"):
        await at_commit(LocalMachine(), reference, "main")


async def test_commit_strays_until_the_branch_that_is_checked_out_has_it(flake: Path) -> None:
    first, here = commit(flake), LocalMachine()
    branch = git(flake, "branch", "--show-current")
    git(flake, "checkout", "-q", "-b", "proposal")
    git(flake, "commit", "-q", "--allow-empty", "-m", "proposed")
    proposed = Source(reference=str(flake), revision=git(flake, "rev-parse", "HEAD"), is_clean=True)
    git(flake, "checkout", "-q", branch)
    dirty = Source(reference=str(flake), revision=first)
    unknown = Source(reference=str(flake), revision="1" * 40, is_clean=True)
    assert [await strays(here, str(flake), one) for one in (proposed, dirty, unknown)] == [True, False, True]
    git(flake, "merge", "-q", "--ff-only", "proposal")
    assert not await strays(here, str(flake), proposed)
    assert not await strays(here, "github:ann/fleet", proposed)
