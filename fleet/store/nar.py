"""The NAR of a store path, readable at any offset: small things are in memory, large ones stay in their files.

A NAR is an encoding of a tree of files (Nix manual, "Nix Archive"). Reading at an offset lets many hosts share what was
read, and lets a slow one come back to it, without a whole NAR in memory.
"""

from __future__ import annotations

import bisect
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.store.wire import number, text

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPEN, _CLOSE = text("("), text(")")
_REGULAR = _OPEN + text("type") + text("regular")
_EXECUTABLE = text("executable") + text("")
_CONTENTS = text("contents")
_SYMLINK = _OPEN + text("type") + text("symlink") + text("target")
_DIRECTORY = _OPEN + text("type") + text("directory")
_ENTRY = text("entry") + _OPEN + text("name")
_NODE = text("node")


class ChangedError(Exception):
    """A file of the store has another length than before, or does not exist any more."""


@dataclass
class Nar:
    """A tree of files as bytes. `head` comes before it, to be sent in one piece with it."""

    size: int = 0
    """Bytes, including the head."""
    _starts: list[int] = field(default_factory=list)
    _pieces: list[bytes | bytearray | tuple[bytes, int]] = field(default_factory=list)
    """Literal bytes, or a file and its length."""

    @classmethod
    def of(cls, path: str, head: bytes = b"") -> Nar:
        """Return the NAR of the file, link or folder. Reads no contents. Raise `OSError` or `ChangedError`."""
        nar = cls()
        nar._literal(head + text("nix-archive-1"))
        nar._node(os.fsencode(path), os.lstat(path))
        return nar

    @property
    def cost(self) -> int:
        """About how many bytes of memory this takes."""
        return 200 * len(self._pieces) + sum(len(piece) for piece in self._pieces if not isinstance(piece, tuple))

    def read(self, start: int, count: int) -> bytearray:
        """Return up to `count` bytes from `start` on; fewer only at the end. Raise `OSError` or `ChangedError`."""
        count = min(count, self.size - start)
        block = bytearray(count)
        view = memoryview(block)
        done = 0
        for piece, skip in self._pieces_from(start):
            if done == count:
                break
            done += _copy(piece, skip, view[done:])
        return block

    def _pieces_from(self, start: int) -> Iterator[tuple[bytes | bytearray | tuple[bytes, int], int]]:
        """Yield the pieces with the bytes from `start` on, each with how many of its bytes to skip."""
        first = bisect.bisect_right(self._starts, start) - 1
        for place in range(first, len(self._pieces)):
            yield self._pieces[place], max(0, start - self._starts[place])

    def _literal(self, data: bytes) -> None:
        if self._pieces and isinstance(self._pieces[-1], bytearray):
            self._pieces[-1] += data
        else:
            self._starts.append(self.size)
            self._pieces.append(bytearray(data))
        self.size += len(data)

    def _node(self, path: bytes, found: os.stat_result) -> None:
        if stat.S_ISREG(found.st_mode):
            executable = _EXECUTABLE if found.st_mode & stat.S_IXUSR else b""
            self._literal(_REGULAR + executable + _CONTENTS + number(found.st_size))
            if found.st_size:
                self._starts.append(self.size)
                self._pieces.append((path, found.st_size))
                self.size += found.st_size
            self._literal(bytes(-found.st_size % 8) + _CLOSE)
        elif stat.S_ISLNK(found.st_mode):
            # Not as a Path, which would normalise it: a NAR has the target as it is.
            self._literal(_SYMLINK + text(os.readlink(path)) + _CLOSE)  # noqa: PTH115
        elif stat.S_ISDIR(found.st_mode):
            self._literal(_DIRECTORY)
            with os.scandir(path) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    self._literal(_ENTRY + text(entry.name) + _NODE)
                    self._node(entry.path, entry.stat(follow_symlinks=False))
                    self._literal(_CLOSE)
            self._literal(_CLOSE)
        else:
            raise ChangedError(f"{os.fsdecode(path)} is neither a file, a link nor a folder")


def _copy(piece: bytes | bytearray | tuple[bytes, int], skip: int, into: memoryview) -> int:
    """Fill `into` with the bytes of the piece from `skip` on, and return how many there were."""
    if not isinstance(piece, tuple):
        part = memoryview(piece)[skip : skip + len(into)]
        into[: len(part)] = part
        return len(part)
    path, size = piece
    wanted = into[: size - skip]
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        done = 0
        while done < len(wanted):
            got = os.preadv(handle, [wanted[done:]], skip + done)
            if not got:
                raise ChangedError(f"{os.fsdecode(path)} is shorter than it was")
            done += got
    finally:
        os.close(handle)
    return len(wanted)
