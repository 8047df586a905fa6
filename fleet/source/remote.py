"""Ask a git repository elsewhere what is merged there, and get commits from it, without touching anybody's work tree.

What local refs say counts for nothing: whoever has the work tree can set them. Commits are named by their hash, so that
it does not matter where their contents come from.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import CommandFailedError, ConfigError
from fleet.files import cache_folder
from fleet.machine import Command
from fleet.text import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet.machine import Machine, Output

GIT = (
    *("env", "GIT_TERMINAL_PROMPT=0", "git", "--no-replace-objects"),
    *("-c", "core.commitGraph=false", "-c", "core.hooksPath=/dev/null", "-c", "maintenance.auto=false"),
)
"""Nothing that a repository brings along decides what a commit is, or runs here."""
EVERYTHING = "+refs/heads/*:refs/remotes/all/*"
ASKING, FETCHING = 60.0, 1800.0
"""Seconds for a question, and for what a slow line has to bring."""
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True)
class Merged:
    """Whether a commit is merged to one of some branches."""

    branch: str = ""
    """The branch. Empty if it is not, or if that could not be asked."""
    why_not: str = ""


class Copies:
    """A repository of our own, in the cache of this user, into which commits are fetched."""

    def __init__(self, here: Machine, remote: str, *, folder: Path | None = None) -> None:
        """Keep what comes from this `remote`, an address or a folder, in a folder of its own."""
        name = hashlib.sha256(remote.encode()).hexdigest()[:20]
        self.folder = folder or cache_folder("repositories") / name
        self._here = here
        self._remote = remote

    async def merged(self, revision: str, branches: Sequence[str]) -> Merged:
        """Return whether the remote has the commit on one of these branches now. Never raises for what it answers."""
        if _COMMIT.fullmatch(revision) is None:
            return Merged(why_not="the plan names no commit")
        try:
            heads = await self._heads(branches)
            for branch, head in heads.items():
                if head == revision or await self._is_ancestor(revision, head):
                    return Merged(branch=branch)
        except (CommandFailedError, ConfigError) as error:
            said = f": {error.said[-1]}" if error.said else ""
            return Merged(why_not=f"{self._remote} cannot be asked: {error.message}{said}")
        missing = [branch for branch in branches if branch not in heads]
        if missing:
            return Merged(why_not=f"{self._remote} has no branch {', '.join(missing)}")
        return Merged(why_not=f"{revision[:12]} is not on {', '.join(branches)} of {self._remote}")

    async def _heads(self, branches: Sequence[str]) -> dict[str, str]:
        """Return the commits that these branches are at, as the remote says just now."""
        wanted = {f"refs/heads/{branch}": branch for branch in branches}
        listed = await self._git("ls-remote", "--", self._remote, *wanted, folder=False)
        rows = (line.split("\t") for line in listed.stdout.splitlines())
        found = {wanted[row[1]]: row[0] for row in rows if len(row) == 2 and row[1] in wanted}
        return {branch: head for branch, head in found.items() if _COMMIT.fullmatch(head)}

    async def _is_ancestor(self, revision: str, head: str) -> bool:
        if not await self._has(head):
            await self._fetch(self._remote, EVERYTHING)
        if not await self._has(head) or not await self._has(revision):
            return False
        return (await self._run("merge-base", "--is-ancestor", revision, head)).status == 0

    async def bring(self, revision: str, *other_places: str) -> None:
        """See to it that the commit is here, from one of the other places or from the remote.

        Raise `ConfigError` if none of them has it.
        """
        if _COMMIT.fullmatch(revision) is None:
            raise ConfigError(f"{revision[:80]!r} is no commit")
        places = tuple(dict.fromkeys((*other_places, self._remote)))
        for place in places:
            for refs in (revision, EVERYTHING):  # some servers give only what a branch leads to
                if not await self._has(revision):
                    await self._fetch(place, refs, must=False)
        if not await self._has(revision):
            hint = "push it to a branch there; what is not committed and pushed cannot be approved"
            raise ConfigError(f"the commit {revision} is not in {' and '.join(places)}", hint=hint)
        await self._git("update-ref", f"refs/heads/at-{revision}", revision)  # Nix wants a branch that leads to it

    def flake(self, revision: str, folder: str = "") -> str:
        """Return the reference of the flake at a commit that was brought, in this folder of the repository."""
        inside = f"&dir={folder}" if folder else ""
        return f"git+file://{self.folder}?ref=at-{revision}&rev={revision}{inside}"

    async def changes(self, old: str, new: str) -> list[str]:
        """Return the commits that `new` has and `old` has not, and the files that differ, as git tells them.

        Both commits were brought.
        """
        commits = await self._git("log", "--oneline", "--no-decorate", "--max-count=20", f"{old}..{new}")
        files = await self._git("diff", "--stat=100", "--no-ext-diff", "--no-textconv", f"{old}...{new}")
        return [shortened(line, 200) for line in (*commits.stdout.splitlines(), *files.stdout.splitlines()[-60:])]

    async def head(self, branch: str) -> str:
        """Return the commit that a branch of the remote is at, and bring it. Raise `ConfigError` if there is none."""
        head = (await self._heads([branch])).get(branch)
        if head is None:
            raise ConfigError(f"{self._remote} has no branch {branch}")
        await self.bring(head)
        return head

    async def _has(self, commit: str) -> bool:
        return (await self._run("cat-file", "-e", f"{commit}^{{commit}}")).status == 0

    async def _fetch(self, place: str, refs: str, *, must: bool = True) -> None:
        flags = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        argv = ("fetch", *flags, "--", place, refs)
        await (self._git if must else self._run)(*argv, timeout=FETCHING)

    async def _git(self, *words: str, folder: bool = True, timeout: float = ASKING) -> Output:
        """Run git, and raise `ConfigError`, with what it said, if it fails."""
        done = await self._run(*words, folder=folder, timeout=timeout)
        if done.status != 0:
            raise ConfigError(f"git {words[0]} failed", said=done.stderr.splitlines()[-3:])
        return done

    async def _run(self, *words: str, folder: bool = True, timeout: float = ASKING) -> Output:
        place = ("-C", str(self.folder)) if folder else ()
        if folder:
            await self._make()
        return await self._here.run(Command(argv=(*GIT, *place, *words), root=False, timeout=timeout))

    async def _make(self) -> None:
        if (self.folder / ".git" / "HEAD").exists():
            return
        await asyncio.to_thread(self.folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        made = await self._here.run(Command(argv=(*GIT, "init", "--quiet", str(self.folder)), root=False))
        if made.status != 0:
            raise ConfigError(f"{self.folder}: git cannot make a repository there", said=made.stderr.splitlines()[-3:])
