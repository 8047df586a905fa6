"""Keep frames in files, so that later runs and other hosts can use what one run has compressed.

Several controllers of one user may share the folder. Each file has a check sum, so that one that was cut short is not
used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from fleet.files import replace_file

LIMIT = 512 << 20
"""Bytes of all files together. Beyond that, the least recently used ones are removed."""
_SUM = hashlib.sha256().digest_size


class Cache:
    """A folder of values by key. A disk that is full or read-only makes it forgetful, and nothing worse."""

    def __init__(self, folder: Path, *, limit: int = LIMIT) -> None:
        self._folder = folder
        self._limit = limit
        self._added = limit
        """Bytes added since the folder was last tidied. It begins with enough to have it tidied."""

    def get(self, key: str) -> bytes | None:
        """Return the value that was put there, if it is still intact."""
        file = self._folder / key
        with contextlib.suppress(OSError):
            data = file.read_bytes()
            if hashlib.sha256(data[_SUM:]).digest() == data[:_SUM]:
                os.utime(file)
                return data[_SUM:]
            file.unlink()
        return None

    def put(self, key: str, value: bytes) -> None:
        """Keep the value, if the disk can."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._folder / key, hashlib.sha256(value).digest() + value)
            self._added += len(value)
            if self._added > self._limit // 8:
                self._make_room()

    def drop(self, key: str) -> None:
        """Remove the value."""
        with contextlib.suppress(OSError):
            (self._folder / key).unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Remove files until the limit is kept, including those of other controllers and half-written ones."""
        self._added = 0
        found = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(FileNotFoundError):  # another controller is removing files too
                found.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._limit:
                break
            Path(path).unlink(missing_ok=True)
            total -= size
