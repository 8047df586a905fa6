"""Remove old runs, and what other machines have forgotten."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from fleet.model import RunId
    from fleet.state.folders import Folders
    from fleet.state.records import RunRecord

KEEP = 20
"""How many runs are kept in any case, and how many builds beside them. Their folders keep roots of what they have
built."""

SOON = 24 * 3600.0
"""Seconds in which what is made in a folder comes to be in the database."""


def remove_left_over(folder: Path, known: Collection[str]) -> None:
    """Remove what has been in the folder for a day and is not known: another machine has forgotten what it was for."""
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            if path.name in known or path.lstat().st_mtime > time.time() - SOON:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def remove_root(root: Path) -> None:
    """Remove the root of what nobody is to bring any more. One that cannot be removed is left for later."""
    with contextlib.suppress(OSError):
        root.unlink(missing_ok=True)


def still_needed(
    record_of: Callable[[RunId], RunRecord | None],
    lives: Callable[[RunId], bool],
    *,
    keep: int,
    waiting: Collection[RunId] = (),
) -> Callable[[RunId], bool]:
    """Return what tells whether a run must stay: it is open, or lives, or is one of the newest `keep` that went wrong.

    So must those of which something is `waiting` for a host that is away: they name the plan that it is a part of. Ask
    it about the newest run first.
    """
    wrong = iter(range(keep))

    def is_needed(run: RunId) -> bool:
        record = record_of(run)
        if record is None:
            return False
        return record.is_open or run in waiting or (record.went_wrong and next(wrong, None) is not None) or lives(run)

    return is_needed


def remove_old(
    runs: Iterable[RunId],
    folders: Folders,
    *,
    keep: int,
    is_needed: Callable[[RunId], bool],
    remove: Callable[[RunId], bool],
) -> tuple[RunId, ...]:
    """Remove the runs beyond the newest `keep` that nobody holds and that are not needed, and return them.

    `is_needed` is asked once nobody can work on the run any more. `remove` returns whether the run is gone.
    """
    removed = []
    for run in sorted(runs, reverse=True)[keep:]:
        with folders.owned(run) as is_ours:
            if is_ours and not is_needed(run) and remove(run):
                removed.append(run)
    return tuple(removed)
