"""Build the argv of git commands that tell what a flake is made of. Nothing is run here, and they change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.machine import Command

if TYPE_CHECKING:
    from pathlib import Path


def _git(*argv: str) -> Command:
    return Command(argv=argv, root=False)


LISTS = ("git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false")
"""For commands that only list, and run nothing that a repository configures: also where it belongs to another user."""


def root(folder: Path) -> Command:
    """Print the top folder of the git work tree that the folder is in."""
    return _git(*LISTS, "-C", str(folder), "rev-parse", "--show-toplevel")


def head(top: Path) -> Command:
    """Print the commit that is checked out; fails if there is none yet."""
    return _git(*LISTS, "-C", str(top), "rev-parse", "--verify", "--quiet", "HEAD")


def commit(top: Path, revision: str) -> Command:
    """Print the commit that a branch, a tag, or a commit's hash or its beginning stands for; fails if there is none."""
    return _git(
        *LISTS, "-C", str(top), "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
    )


def leads_to(top: Path, commit: str) -> Command:
    """Succeed if what is checked out has the commit in its history."""
    return _git(*LISTS, "-C", str(top), "merge-base", "--is-ancestor", commit, "HEAD")


def files(top: Path, *which: str) -> Command:
    """Print the files that git tracks, or others, each ended by a NUL."""
    return _git(*LISTS, "-C", str(top), "ls-files", "-z", *which)


def status(top: Path, *, untracked: bool = False) -> Command:
    """Print the commit that is checked out, and a line for each tracked file that differs from it.

    With `untracked` there is a line for each file too that git neither tracks nor ignores.
    """
    flags = ("--porcelain=v2", "--branch", f"--untracked-files={'normal' if untracked else 'no'}")
    return _git("git", "--no-optional-locks", "-C", str(top), "status", *flags)


def changed(top: Path, file: Path) -> Command:
    """Print a line if the file is not as it is committed, which begins with `??` if git does not know it."""
    return _git("git", "--no-optional-locks", "-C", str(top), "status", "--porcelain", "--", str(file))
