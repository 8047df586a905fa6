"""Find the commit that a flake is evaluated at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fleet.inventory.origins import FILE, is_expression
from fleet.plans import Source
from fleet.source import git
from fleet.source.tree import folder_of, said, work_tree

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
