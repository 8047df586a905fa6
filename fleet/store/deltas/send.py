"""Send one host what it lacks over a slow link."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.scripts import script
from fleet.store.deltas.bases import Bases, estimate, is_store_path, package
from fleet.store.deltas.delta import compress
from fleet.store.deltas.groups import Cutter, Dump, Group
from fleet.store.send import Sender
from fleet.store.supply import length

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fleet.machine import Stream
    from fleet.store.deltas.frames import Frame, Frames
    from fleet.store.send import Progress
    from fleet.store.supply import Supply
    from fleet.store.wire import PathInfo

WORTH_ASKING = 4096
"""NAR bytes from which on the host is asked whether it has other paths like this one."""
MOST_KIN, MOST_ASKED = 24, 1500
"""How many paths of the local store the host is asked about: for one path that it lacks, and for all. Each takes 30
bytes on the link. A machine that builds has many versions of a package, of which a host has one."""
STORE = Path("/nix/store")
AHEAD = 3
"""Frames that are made before the link asks for them."""


def receiver() -> str:
    """Return the shell program at the other end. It needs root, and nothing else on stdin."""
    return script("fleet.store.deltas", "receive")


class DeltaSender(Sender):
    """Talks to one `nix-store --serve --write` through `receive`."""

    def __init__(self, stream: Stream, supply: Supply, progress: Progress, frames: Frames, bases: Bases) -> None:
        super().__init__(stream, supply, progress)
        self._frames = frames
        self._bases = bases
        self._dump = Dump(compress)
        self._deltas: list[Group] = []
        """Groups that were sent as deltas."""
        self._order: Sequence[PathInfo] = ()
        self._arrived_before = progress.arrived

    def doubtful(self) -> list[Group]:
        """Return the deltas that hold the first path which has not arrived: their base may be at fault."""
        arrived = self._progress.arrived - self._arrived_before
        first = {info.path for info in self._order[arrived : arrived + 1]}
        return [group for group in self._deltas if any(part.info.path in first for part in group.new)]

    async def lacking(self, wanted: Sequence[str]) -> list[PathInfo]:
        """See `Sender.lacking`. Paths of the host that may serve as a base are found too, and rooted there."""
        infos = await super().lacking(wanted)
        alone = [info for info in infos if info.nar_size >= WORTH_ASKING and not self._bases.is_promising(info)]
        if self._bases.is_trusted and (kin := await self._kin(alone, {info.path for info in infos})):
            valid = await self._valid(sorted(kin))
            self._bases.add(await self._supply.known(valid))
        return infos

    async def _kin(self, infos: Sequence[PathInfo], lacking: set[str]) -> set[str]:
        """Return paths of the local store that could be bases of these, if the host has them."""
        packages = {package(info.path) for info in infos}
        paths = await asyncio.to_thread(_of_packages, packages) if packages else []
        local = Bases(await self._supply.known(path for path in paths if path not in lacking))
        most = max(1, MOST_ASKED // max(1, len(infos)))
        return {other.path for info in infos for other in local.like(info, min(most, MOST_KIN))}

    async def _say(self, data: bytes) -> None:
        await self._hand_over(_zstd(compress(data)))

    async def _feed(self, infos: Sequence[PathInfo], last: bytes) -> None:
        self._order, self._arrived_before = infos, self._progress.arrived
        left = sum(map(length, infos))
        self._expect(estimate({info.path: info.nar_size for info in infos}, self._bases.paths))
        plain = packed = 0
        try:
            async for group, frame in self._made(infos):
                await self._hand_over(self._packed(group, frame))
                left -= group.size
                plain, packed = plain + group.size, packed + len(frame.data)
                self._expect(left * packed // plain)
            await self._say(last)
            self._expect(0)
        except BrokenPipeError:
            return  # the server's exit status and last lines explain it

    def _expect(self, more: int) -> None:
        self._progress.total = self._progress.sent + more

    def _packed(self, group: Group, frame: Frame) -> bytes:
        if not frame.has_base:
            return _zstd(frame.data)
        self._deltas.append(group)
        return self._dump.hold(group.base) + b"delta %d\n" % len(frame.data) + frame.data

    async def _made(self, infos: Sequence[PathInfo]) -> AsyncIterator[tuple[Group, Frame]]:
        """Yield the groups of all paths with their frames; later ones are made while earlier ones are sent."""
        ahead: deque[tuple[Group, asyncio.Task[Frame]]] = deque()
        async for group in self._groups(infos):
            ahead.append((group, self._frames.frame(group)))
            if len(ahead) > AHEAD:
                first, frame = ahead.popleft()
                yield first, await asyncio.shield(frame)
        for first, frame in ahead:
            yield first, await asyncio.shield(frame)

    async def _groups(self, infos: Sequence[PathInfo]) -> AsyncIterator[Group]:
        cutter = Cutter()
        for info in infos:
            base = await self._frames.base(info, self._bases.like(info))
            for group in cutter.add(info, base):
                yield group
        for group in cutter.rest():
            yield group


def _of_packages(packages: set[str]) -> list[str]:
    """Return what the local store's folder has of these packages, valid or not."""
    with os.scandir(STORE) as entries:
        return [entry.path for entry in entries if is_store_path(entry.name) and package(entry.name) in packages]


def _zstd(frame: bytes) -> bytes:
    return b"zstd %d\n" % len(frame) + frame
