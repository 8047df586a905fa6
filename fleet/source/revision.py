"""Find the commit that a flake is evaluated at, or have it evaluated at another one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode

from fleet.errors import ConfigError
from fleet.inventory.origins import FILE, is_expression
from fleet.plans import Source
from fleet.source import git
from fleet.source.tree import folder_of, in_work_tree, said, work_tree

if TYPE_CHECKING:
    from fleet.machine import Machine


async def source_of(here: Machine, flake: str) -> Source:
    """Return what the flake is now: its reference and, if it is in git, the commit and whether files differ from it.

    An expression in a file may read files that git does not know: they count too.
    """
    is_file = is_expression(flake)
    folder = Path(flake.removeprefix(FILE)).parent if is_file else folder_of(flake)
    root = await work_tree(here, flake, folder) if folder is not None and folder.is_dir() else None
    status = await said(here, git.status(root, untracked=is_file)) if root is not None else None
    if status is None:
        return Source(reference=flake)
    lines = status.splitlines()
    commits = [line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid ")]
    revision = commits[0] if commits and commits[0] != "(initial)" else ""
    is_clean = bool(revision) and all(line.startswith("# ") for line in lines)
    return Source(reference=flake, revision=revision, is_clean=is_clean)


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A flake at one commit of its repository, whatever its work tree has."""

    flake: str
    """The reference of the flake at the commit, for Nix."""
    source: Source
    """What a plan says of it."""


async def at_commit(here: Machine, flake: str, revision: str) -> Commit:
    """Return the flake as it is at a branch, a tag or a commit of the git repository that it is in on this machine.

    Raise `ConfigError` if it is in none, or if there is no such commit.
    """
    place = await in_work_tree(here, flake)
    if place is None:
        hint = "it is for flakes in a git work tree of this machine"
        raise ConfigError(f"--revision {revision}: {flake.removeprefix(FILE)} has no commits here", hint=hint)
    folder, root = place
    found = await said(here, git.commit(root, revision))
    if found is None:
        hint = f"git -C {root} fetch --all brings what others have pushed"
        raise ConfigError(f"--revision {revision}: is no branch, tag or commit in {root}", hint=hint)
    commit = found.strip()
    asked = dict(parse_qsl(flake.partition("?")[2], keep_blank_values=True))
    inside = (folder.resolve() / asked.pop("dir", "")).relative_to(root.resolve()).as_posix()
    # Whichever branch leads to it: Nix looks at that which is checked out otherwise.
    query = {**asked, "rev": commit, "allRefs": "1", **({} if inside == "." else {"dir": inside})}
    reference = f"git+file://{quote(str(root.resolve()))}?{urlencode(query)}"
    return Commit(flake=reference, source=Source(reference=flake, revision=commit, is_clean=True))


async def strays(here: Machine, flake: str, source: Source) -> bool:
    """Return whether a system was made from a commit that what is checked out of its flake now does not lead to.

    Nothing else strays: not files that are in no commit, nor a flake that is in no work tree of this machine.
    """
    place = await in_work_tree(here, flake) if source.is_clean and source.revision else None
    return place is not None and await said(here, git.leads_to(place[1], source.revision)) is None
