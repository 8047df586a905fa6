"""Remove old runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fleet.model import RunId
    from fleet.state.folders import Folders

KEEP = 20
"""How many runs are kept in any case, and how many builds beside them. Their folders keep roots of what they have
built."""


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
