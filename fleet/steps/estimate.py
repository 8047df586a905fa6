"""Estimate what a push takes: bytes on the link, space on the host's disk, and time."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import stat
from typing import TYPE_CHECKING

from fleet.errors import UnfitError
from fleet.steps.deliver import unreadable
from fleet.store.nar import ChangedError
from fleet.store.supply import Supply, length

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from fleet.host.facts import HostFacts
    from fleet.model import HostName
    from fleet.steps.load import Load
    from fleet.store.wire import PathInfo

    Estimate = Callable[[list[PathInfo]], Awaitable[int]]

SPARE = 32 << 20
"""Bytes that must stay free on /nix beside what arrives: for the profile, the record, and whatever else the host
writes."""
BLOCK = 4096
"""Bytes that the smallest file takes on a disk, as is usual for ext4, btrfs and XFS."""
ENTRY = 512
"""Bytes for the inode and the name of a file."""


class Estimator:
    """Estimates pushes. Sizes found for one host are reused for the others."""

    def __init__(self, supply: Supply) -> None:
        self._supply = supply
        self._rooms: dict[str, int] = {}

    async def estimate(
        self, load: Load, host: HostName, *, speed: float | None, over_slow_link: Estimate | None = None
    ) -> Load:
        """Return the load with the bytes, the space and the time that bringing it to the host takes.

        `speed` is in bytes per second, if it is known. `over_slow_link` estimates what crosses a slow link. Raise
        `PushError` if the local store cannot be read.
        """
        try:
            infos = await self._supply.infos(load.pushed)
            room = await asyncio.to_thread(self._room, load.missing)
        except (ChangedError, OSError) as error:
            raise unreadable(host, error) from error
        wire = await over_slow_link(infos) if over_slow_link else sum(map(length, infos))
        return dataclasses.replace(
            load,
            wire_bytes=wire,
            room_needed=room + SPARE if load.missing else 0,
            push_seconds=wire / speed if speed else None,
        )

    def _room(self, paths: Iterable[str]) -> int:
        """Return the bytes that the paths take on a disk. Looks at files: call it in a thread."""
        unknown = [path for path in paths if path not in self._rooms]
        self._rooms.update((path, room(path)) for path in unknown)
        return sum(self._rooms[path] for path in paths)


def require_room(host: HostName, facts: HostFacts, load: Load) -> None:
    """Raise `UnfitError` if what arrives, by push or from a cache, does not fit on the host's disk."""
    if load.room_needed > facts.nix_free:
        need, have = -(-load.room_needed >> 20), facts.nix_free >> 20
        hint = "fleet gc frees what no rollback needs"
        raise UnfitError(host, f"needs {need} MiB on /nix, {have} MiB are free", hint=hint)


def room(path: str | bytes) -> int:
    """Return the bytes that the file, link or folder takes on a disk.

    Its NAR may be much smaller, with many small files in it.
    """
    status = os.lstat(path)
    return ENTRY + _blocks(status.st_size) + (_room_inside(path) if stat.S_ISDIR(status.st_mode) else 0)


def _room_inside(folder: str | bytes) -> int:
    """Return the bytes that everything in the folder takes on a disk."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += ENTRY + BLOCK + _room_inside(entry.path)
            elif entry.is_symlink():
                total += ENTRY  # a short link is stored in its inode
            else:
                total += ENTRY + _blocks(entry.stat(follow_symlinks=False).st_size)
    return total


def _blocks(size: int) -> int:
    """Return the size rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK
