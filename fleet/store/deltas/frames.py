"""Compress groups into zstd frames, each once: for all hosts of a run, and through a cache for later runs."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from fleet.store import wire
from fleet.store.deltas.delta import QUICK, compress
from fleet.store.deltas.groups import PIECE, Group, Part, region
from fleet.store.nar import ChangedError
from fleet.store.supply import Shared, length, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fleet.store.deltas.cache import Cache
    from fleet.store.nar import Nar
    from fleet.store.wire import PathInfo

KEPT = 8 << 20
"""Bytes of frames that stay in memory for the hosts that follow."""
MARKS = 4096
"""How many choices of a base are remembered."""
SMALL, POOR = 0.03, 0.2
"""Fractions of the original bytes. If a delta leaves more than `SMALL`, a higher level is tried, which takes less time
than 10 Mbit/s take for what it saves. If it leaves more than `POOR`, it may be no better than no base at all."""
WORTH = 0.95
"""The largest fraction of the bytes without a base that a poor delta may take: to read a base costs the host
something."""
SAMPLE = 1 << 20
"""Bytes of a path by which its bases are compared with each other."""
TREES = 4
"""Trees of large paths that are kept, since the next piece needs them again."""
_FORMAT = "1"
"""The version of keys and values in the cache. Change it when frames are made in another way."""
_ALONE, _DELTA = b"-", b"d"

T = TypeVar("T")


@dataclass(frozen=True)
class Frame:
    """A compressed group."""

    data: bytes
    has_base: bool
    """Whether it was made against the group's base, and must be decompressed with it."""


class Frames:
    """Makes frames in one thread. That needs memory for one frame only, and is fast enough for many slow links."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._made: Shared[Frame] = Shared(KEPT, lambda frame: len(frame.data))
        self._chosen: Shared[int] = Shared(MARKS, lambda _: 1)
        self._trees: OrderedDict[str, Nar] = OrderedDict()
        self._maker = ThreadPoolExecutor(1)

    def frame(self, group: Group) -> asyncio.Task[Frame]:
        """Return the task that makes the group's frame. Others may await it too: await it shielded.

        It raises `OSError` or `ChangedError`.
        """
        return self._made.get(_key(group), lambda: self._thread(lambda: self._frame(group)))

    async def base(self, info: PathInfo, candidates: Sequence[PathInfo]) -> PathInfo | None:
        """Return the candidate that leaves least of the path, judged by a sample; None if there are none."""
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        key = (info.path, *(candidate.path for candidate in candidates))
        choice = self._chosen.get(key, lambda: self._thread(lambda: self._best(info, candidates)))
        return candidates[await asyncio.shield(choice)]

    def forget(self, groups: Iterable[Group]) -> None:
        """Never use the frames of these groups again, whoever made them."""
        for key in map(_key, groups):
            self._made.forget(key)
            self._cache.drop(key)

    async def close(self) -> None:
        """Wait for what is being made, and forget everything."""
        await self._made.close()
        await self._chosen.close()
        self._maker.shutdown()
        self._trees.clear()

    async def _thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._maker, work)

    def _frame(self, group: Group) -> Frame:
        key = _key(group)
        if kept := self._cache.get(key):
            return Frame(kept[1:], kept[:1] == _DELTA)
        frame = self._compressed(group)
        self._cache.put(key, (_DELTA if frame.has_base else _ALONE) + frame.data)
        return frame

    def _compressed(self, group: Group) -> Frame:
        data = self._bytes(group.new)
        try:
            base = self._bytes(_behind_announcement(group.base))
        except (OSError, ChangedError):
            base = b""  # the base is gone here, or has changed: do without it
        if not base:
            return Frame(compress(data), has_base=False)
        delta = compress(data, base, level=QUICK)
        if len(delta) > SMALL * len(data):
            delta = min(delta, compress(data, base), key=len)
        alone = compress(data) if len(delta) > POOR * len(data) else delta
        is_worth_it = alone is delta or len(delta) < WORTH * len(alone)
        return Frame(delta if is_worth_it else alone, has_base=is_worth_it)

    def _best(self, info: PathInfo, candidates: Sequence[PathInfo]) -> int:
        """Return the index of the best candidate."""
        whole = length(info)
        start = max(0, (whole - SAMPLE) // 2)
        part = Part(info, start, min(start + SAMPLE, whole))
        data = self._bytes([part])

        def remaining(place: int) -> int:
            try:
                base = self._bytes(_behind_announcement([region(part, whole, candidates[place], 3 * SAMPLE)]))
            except (OSError, ChangedError):
                return len(data)
            return len(compress(data, base, level=QUICK))

        return min(range(len(candidates)), key=remaining)

    def _bytes(self, parts: Sequence[Part]) -> bytes:
        return b"".join(self._tree(part.info).read(part.start, part.size) for part in parts)

    def _tree(self, info: PathInfo) -> Nar:
        if info.nar_size <= PIECE:
            return tree(info)
        found = self._trees.pop(info.path, None) or tree(info)
        self._trees[info.path] = found
        while len(self._trees) > TREES:
            self._trees.popitem(last=False)
        return found


def _behind_announcement(parts: Sequence[Part]) -> list[Part]:
    """Return the same bytes of NARs, as offsets into what adds their paths to a store."""
    heads = [len(wire.add_to_store_nar(part.info)) for part in parts]
    return [Part(part.info, part.start + head, part.end + head) for part, head in zip(parts, heads, strict=True)]


def _key(group: Group) -> str:
    """Return a key that is equal for groups of the same bytes with the same base."""
    total = hashlib.sha256(_FORMAT.encode())
    for part in group.new:
        total.update(wire.add_to_store_nar(part.info) + wire.number(part.start) + wire.number(part.end))
    for part in group.base:
        total.update(part.info.nar_hash.encode() + wire.number(part.start) + wire.number(part.end))
    return total.hexdigest()
