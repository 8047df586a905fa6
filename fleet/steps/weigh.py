"""What a push takes: bytes on the link, room on the host's disk, and time."""

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

    from fleet.steps.plan import HostPlan
    from fleet.store.wire import PathInfo

    Estimate = Callable[[list[PathInfo]], Awaitable[int]]

SPARE = 32 << 20
"""Bytes that must stay free on /nix beside what arrives: the profile, the record, the host's own life."""
BLOCK = 4096
"""Bytes that the smallest file takes on a disk: usual for ext4, btrfs and XFS."""
ENTRY = 512
"""Bytes for the inode and the name of a file."""


class Scales:
    """Weighs pushes. What is weighed for one host is known for all."""

    def __init__(self, supply: Supply) -> None:
        self._supply = supply
        self._rooms: dict[str, int] = {}

    async def weigh(self, plan: HostPlan, *, speed: float | None, thin: Estimate | None = None) -> HostPlan:
        """The plan with what its push takes, at `speed` bytes a second if that is known; `thin` is for a thin link.

        Raises `UnfitError` when it would not fit, `PushError` when the local store cannot be read.
        """
        try:
            infos = await self._supply.infos(plan.pushed)
            room = await asyncio.to_thread(self._room, plan.missing)
        except (ChangedError, OSError) as error:
            raise unreadable(plan.host.name, error) from error
        wire = await thin(infos) if thin else sum(map(length, infos))
        weighed = dataclasses.replace(
            plan,
            wire_bytes=wire,
            room_needed=room + SPARE if plan.missing else 0,
            push_seconds=wire / speed if speed else None,
        )
        require_room(weighed)
        return weighed

    def _room(self, paths: Iterable[str]) -> int:
        unknown = [path for path in paths if path not in self._rooms]
        self._rooms.update((path, room(path)) for path in unknown)
        return sum(self._rooms[path] for path in paths)


def require_room(plan: HostPlan) -> None:
    """Raises when what arrives, by push or from a cache, would not fit."""
    free = plan.facts.nix_free
    if plan.room_needed > free:
        need, have = -(-plan.room_needed >> 20), free >> 20
        hint = "nix-collect-garbage on the host frees what no generation needs"
        raise UnfitError(plan.host.name, f"needs {need} MiB on /nix, {have} MiB are free", hint=hint)


def room(path: str | bytes) -> int:
    """Bytes that the file, link or folder takes on a disk. Its NAR may be much smaller, with many small files in it."""
    found = os.lstat(path)
    return ENTRY + _blocks(found.st_size) + (_inside(path) if stat.S_ISDIR(found.st_mode) else 0)


def _inside(folder: str | bytes) -> int:
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += ENTRY + BLOCK + _inside(entry.path)
            elif entry.is_symlink():
                total += ENTRY  # short ones are in the inode
            else:
                total += ENTRY + _blocks(entry.stat(follow_symlinks=False).st_size)
    return total


def _blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
