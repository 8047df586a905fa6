"""Let go what fleet keeps on this machine and nobody needs: old runs, builds and plans, and what only they have rooted.

Of the store, only paths go that these roots had kept, and that nothing else keeps. What other people and other programs
left there is theirs.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import CommandFailedError, FleetError
from fleet.model import HostName
from fleet.state.threads import in_state
from fleet.store import roots
from fleet.text import whole_number

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from fleet.machine import Command, Machine
    from fleet.state import State, Tidied


@dataclass(frozen=True, kw_only=True)
class GarbageHere:
    """What this machine keeps for runs, builds and plans that are over, or what of that has gone."""

    tidied: Tidied
    paths: tuple[str, ...] = ()
    """Store paths that only their roots keep."""
    bytes: int = 0
    """The size of their contents."""
    note: str = ""
    """Why not all of the paths went that could have gone. Empty if they did."""
    _held: frozenset[str] = field(default=frozenset(), repr=False)
    """All that their roots keep."""

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to remove."""
        return not any((self.tidied.runs, self.tidied.builds, self.tidied.plans, self.tidied.deliveries, self.paths))


async def find_here(state: State, here: Machine, *, keep: int) -> GarbageHere:
    """Return what `free_here` would remove. Changes nothing.

    Raise `StateError`, or `FleetError` if this machine's store does not answer.
    """
    tidied = await in_state(state.tidy, keep=keep, dry_run=True)
    folders = await in_state(_links_of, state, tidied)
    links = [link for link, _ in folders]
    held = frozenset((await _ran(here, roots.requisites(await _valid(here, {path for _, path in folders})))).split())
    if not held:
        return GarbageHere(tidied=tidied)
    known = roots.read_roots(await _ran(here, roots.ROOTS))
    others = {path for link, path in known if link not in links}
    needed = set((await _ran(here, roots.requisites(await _valid(here, others)))).split())
    paths = tuple(sorted(held - needed))
    size = sum((await _sizes(here, paths)).values())
    return GarbageHere(tidied=tidied, paths=paths, bytes=size, _held=held)


async def free_here(state: State, here: Machine, found: GarbageHere, *, keep: int) -> GarbageHere:
    """Remove what was found, as far as nobody needs it by now, and return what is gone.

    When this is interrupted, what is left is garbage for Nix, or is found again. So is what Nix does not delete: the
    `note` says why. Raise `StateError`.
    """
    tidied = await in_state(state.tidy, keep=keep)
    sizes: dict[str, int] = {}
    try:
        dead = set((await _ran(here, roots.DEAD)).split())
        sizes = await _sizes(here, sorted(found._held & dead))
        if sizes:
            await _ran(here, roots.delete(sizes))
    except FleetError as error:
        left = await _left(here, sizes)
        gone = {path: size for path, size in sizes.items() if path not in left}
        said = f" ({error.said[-1]})" if error.said else ""
        note = f"not all that nothing needs any more was deleted: {error.message}{said}"
        return GarbageHere(tidied=tidied, paths=tuple(gone), bytes=sum(gone.values()), note=note)
    return GarbageHere(tidied=tidied, paths=tuple(sizes), bytes=sum(sizes.values()))


async def _left(here: Machine, paths: Collection[str]) -> frozenset[str]:
    """Return those of the paths that are still there; all of them if nobody knows."""
    with contextlib.suppress(FleetError):
        return frozenset(await _valid(here, paths))
    return frozenset(paths)


def _links_of(state: State, tidied: Tidied) -> list[tuple[str, str]]:
    """Return the roots in the folders of what goes, each with the store path that it keeps."""
    folders = [*map(state.folder, (*tidied.runs, *tidied.builds)), *map(state.plan_folder, tidied.plans)]
    links = [
        Path(parent) / name
        for folder in folders
        for parent, below, files in os.walk(folder)
        for name in (*below, *files)
    ]
    links += [state.delivery_root(HostName(host)) for host in tidied.deliveries]
    found = ((str(link), str(link.readlink())) for link in links if link.is_symlink())
    return [(link, path) for link, path in found if path.startswith("/nix/store/")]


async def _valid(here: Machine, paths: Collection[str]) -> list[str]:
    missing = set((await _ran(here, nix.missing(paths))).split())
    return sorted(set(paths) - missing)


async def _sizes(here: Machine, paths: Sequence[str]) -> dict[str, int]:
    """Return the size of each path. Nix prints them in the order in which it is asked."""
    lines = (await _ran(here, roots.sizes(paths))).split() if paths else []
    return dict.fromkeys(paths, 0) | dict(zip(paths, map(whole_number, lines), strict=False))


async def _ran(here: Machine, command: Command) -> str:
    try:
        output = await here.run(command)
    except CommandFailedError as error:
        raise FleetError(f"the store of this machine does not answer: {error.message}", said=error.said) from error
    if output.status != 0:
        message = f"{command.program} ended with exit status {output.status}"
        raise FleetError(f"the store of this machine does not answer: {message}", said=output.stderr.splitlines()[-5:])
    return output.stdout
