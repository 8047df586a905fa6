"""Cut what a host lacks into groups that are compressed one by one, each against a part of what it has. No I/O.

Small paths share a group, because each group costs the host a few processes. Large ones are cut, so that neither side
needs much memory, and a piece from the middle of a NAR is compared with the middle of its base. Of linux-image (408 MB,
Debian 6.1.170 to 6.1.176) pieces of 2 MiB against 6 MiB leave 0.068, and 4 against 12 no less. Of qemu, Python and
PostgreSQL they leave less than larger ones do, because zstd looks more closely at less data.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.store import wire
from fleet.store.supply import length

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet.store.wire import PathInfo

PIECE = 2 << 20
"""The most bytes of a group."""
REGION = 6 << 20
"""The most bytes that one group is compared with. Together with the piece that is a window of 8 MiB."""
MOST_PATHS = 200
"""The most paths in one group: the host asks its store for all of their bases at once, and a pipe must hold the
question."""
GREETING = 16
"""Bytes of a server's answer to `wire.hello`."""
ENDS_GROUP = 8
"""How many of 256 paths end their group, chosen by their hash. So hosts that lack almost the same share most groups."""


@dataclass(frozen=True)
class Part:
    """The bytes from `start` to before `end`: of what adds a path to a store, or of the NAR of a path that is there."""

    info: PathInfo
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True)
class Group:
    """Parts that are compressed together."""

    new: tuple[Part, ...]
    """Parts of what adds paths to a store, see `wire.add_to_store_nar`."""
    base: tuple[Part, ...] = ()
    """Parts of NARs that the host has."""

    @property
    def size(self) -> int:
        """Bytes before compression."""
        return sum(part.size for part in self.new)


class Cutter:
    """Cuts paths that come one after another, each with its base, into groups. Keeps their order."""

    def __init__(self) -> None:
        self._new: list[Part] = []
        self._base: list[Part] = []

    def add(self, info: PathInfo, base: PathInfo | None) -> list[Group]:
        """Add a path, and return the groups that are complete now. The path may wait for others to share a group."""
        size, region = length(info), base.nar_size if base else 0
        full = _size(self._new) + size > PIECE or _size(self._base) + region > REGION or len(self._new) == MOST_PATHS
        done = self.rest() if full else []
        if size > PIECE or region > REGION:
            return done + _pieces(info, base)
        self._new.append(Part(info, 0, size))
        self._base += [Part(base, 0, region)] if base else []
        return done + (self.rest() if int(info.nar_hash[:2], 16) < ENDS_GROUP else [])

    def rest(self) -> list[Group]:
        """Return what still waits, as a group."""
        done = [Group(tuple(self._new), tuple(self._base))] if self._new else []
        self._new, self._base = [], []
        return done


def _size(parts: Sequence[Part]) -> int:
    return sum(part.size for part in parts)


def _pieces(info: PathInfo, base: PathInfo | None) -> list[Group]:
    """Cut a path into pieces, each with the proportional region of its base."""
    whole = length(info)
    starts = range(0, whole, PIECE)
    parts = [Part(info, start, min(start + PIECE, whole)) for start in starts]
    return [Group((part,), (region(part, whole, base),) if base else ()) for part in parts]


def region(part: Part, whole: int, base: PathInfo, size: int = REGION) -> Part:
    """Return up to `size` bytes of the base's NAR, at the place that corresponds to the part's place in the whole."""
    middle = (part.start + part.end) * base.nar_size // (2 * whole)
    start = max(0, min(middle - size // 2, base.nar_size - size))
    return Part(base, start, min(start + size, base.nar_size))


class Dump:
    """Keeps track of what the host's base holds and how far its store was read, to order what must be read next.

    The host reads the NARs that it asks for as one stream: only forward, and never twice what two pieces share.
    """

    def __init__(self, pack: Callable[[bytes], bytes]) -> None:
        self._pack = pack
        """Makes a zstd frame."""
        self._path, self._size = "", 0
        """The NAR that is being read, and its size in bytes."""
        self._low, self._read = 0, 0
        """The base ends with the bytes from `low` to before `read` of that NAR."""
        self._held = 0
        """Bytes that the base holds."""
        self._greeted = False

    def hold(self, parts: Sequence[Part]) -> bytes:
        """Return the orders that make the host's base hold exactly these parts. See `receive`."""
        (only,) = parts if len(parts) == 1 else (None,)
        if only and only.info.path == self._path and self._low <= only.start and self._read <= only.end:
            return self._slid(only)
        orders = _order("drop", self._held) + (self._asked(parts) if parts else b"")
        reads = b""
        for part in parts:
            self._path, self._size, self._read = part.info.path, part.info.nar_size, 0
            reads += self._taken(part) + (b"" if part is parts[-1] else self._finished())
        self._held = sum(part.size for part in parts)
        return orders + _joined(reads)

    def _slid(self, part: Part) -> bytes:
        """Return the orders that go further in the NAR that is being read."""
        still = max(0, self._read - part.start)
        orders = _order("drop", self._held - still) + self._taken(part)
        self._held = part.size
        return orders

    def _asked(self, parts: Sequence[Part]) -> bytes:
        # The host's store reads a question when its last answer was read. Until then the questions wait in a pipe.
        asked = b"".join(wire.dump_store_path(part.info.path) for part in parts)
        hello, greeting = (b"", 0) if self._greeted else (wire.hello(), GREETING)
        self._greeted = True
        frame = self._pack(hello + asked)
        return self._finished() + _order("ask", len(frame)) + frame + _order("skip", greeting)

    def _taken(self, part: Part) -> bytes:
        orders = _order("skip", part.start - self._read) + _order("take", part.end - max(self._read, part.start))
        self._low, self._read = part.start, part.end
        return orders

    def _finished(self) -> bytes:
        left, self._read = self._size - self._read, self._size
        return _order("skip", left)


def _joined(orders: bytes) -> bytes:
    """Join orders of one kind that follow each other: each order costs the host two processes."""
    alike = itertools.groupby((line.split() for line in orders.decode().splitlines()), key=lambda order: order[0])
    return b"".join(_order(word, sum(int(count) for _, count in equals)) for word, equals in alike)


def _order(word: str, count: int) -> bytes:
    return f"{word} {count}\n".encode() if count > 0 else b""
