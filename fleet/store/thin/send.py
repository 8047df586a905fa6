"""Bringing paths to one host over a thin link."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.store.send import Sender
from fleet.store.supply import length
from fleet.store.thin.bases import Bases, estimate, is_store_path, package
from fleet.store.thin.delta import compress
from fleet.store.thin.groups import Cutter, Dump, Group

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fleet.machine import Stream
    from fleet.store.send import Progress
    from fleet.store.supply import Supply
    from fleet.store.thin.frames import Frame, Frames
    from fleet.store.wire import PathInfo

WORTH_ASKING = 4096
"""NAR bytes of a path for which the host is asked whether it has others like it."""
MOST_KIN, MOST_ASKED = 24, 1500
"""Paths of the local store that the host is asked about: for one path that it lacks, and for all. Each takes 30 bytes
on the link; a machine that builds has many versions of a package, of which a host has one."""
STORE = Path("/nix/store")
AHEAD = 3
"""Frames that are made before the link asks for them."""


def receiver() -> str:
    """The shell program that this speaks to. It needs root, and nothing on stdin but what comes from here."""
    return resources.files("fleet.store.thin").joinpath("receive").read_text()


class ThinSender(Sender):
    """Speaks to one `nix-store --serve --write` through `receive`."""

    def __init__(self, stream: Stream, supply: Supply, progress: Progress, frames: Frames, bases: Bases) -> None:
        super().__init__(stream, supply, progress)
        self._frames = frames
        self._bases = bases
        self._dump = Dump(compress)
        self._deltas: list[Group] = []
        """Groups that went with a base."""
        self._order: Sequence[PathInfo] = ()
        self._arrived_before = progress.arrived

    def doubtful(self) -> list[Group]:
        """Groups with a base that hold the first path that has not arrived: the base may be what went wrong."""
        arrived = self._progress.arrived - self._arrived_before
        first = {info.path for info in self._order[arrived : arrived + 1]}
        return [group for group in self._deltas if any(part.info.path in first for part in group.new)]

    async def lacking(self, wanted: Sequence[str]) -> list[PathInfo]:
        """See `Sender.lacking`. What the host has that may serve as a base for it is known too, and rooted there."""
        infos = await super().lacking(wanted)
        alone = [info for info in infos if info.nar_size >= WORTH_ASKING and not self._bases.is_promising(info)]
        if self._bases.is_trusted and (kin := await self._kin(alone, {info.path for info in infos})):
            valid = await self._valid(sorted(kin))
            self._bases.add(await self._supply.known(valid))
        return infos

    async def _kin(self, infos: Sequence[PathInfo], lacking: set[str]) -> set[str]:
        """Paths of the local store that may be bases of these, if the host has them."""
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
            return  # the server's last lines and its exit status say why

    def _expect(self, more: int) -> None:
        self._progress.total = self._progress.sent + more

    def _packed(self, group: Group, frame: Frame) -> bytes:
        if not frame.has_base:
            return _zstd(frame.data)
        self._deltas.append(group)
        return self._dump.hold(group.base) + b"delta %d\n" % len(frame.data) + frame.data

    async def _made(self, infos: Sequence[PathInfo]) -> AsyncIterator[tuple[Group, Frame]]:
        """The groups of all paths and their frames, some of them being made while earlier ones are sent."""
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
    """What is in the local store's folder of these packages, valid or not."""
    with os.scandir(STORE) as entries:
        return [entry.path for entry in entries if is_store_path(entry.name) and package(entry.name) in packages]


def _zstd(frame: bytes) -> bytes:
    return b"zstd %d\n" % len(frame) + frame
