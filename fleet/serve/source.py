"""The fleet that is served. Its files may change meanwhile: then it is opened anew, or stays as it was."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from fleet.errors import ConfigError
from fleet.library.authority import FILES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet.library.fleet import Fleet
    from fleet.policy import Principals


class Source:
    """Opens the fleet, and knows who there is in it."""

    def __init__(self, open_fleet: Callable[[], Fleet], file: Path) -> None:
        """`file` is the fleet.toml, which may be a link to another one later.

        Raise `ConfigError` with everything that is wrong with the files.
        """
        self._file = file
        self._open_fleet = open_fleet
        self.fleet = open_fleet()
        self.principals: Principals | None = self.fleet.principals()
        self.trouble = ""
        """What is wrong with the files now. Empty if nothing is."""
        self._stamp = _stamp(file)

    async def refresh(self) -> bool:
        """Open the fleet anew if a file of it has changed. Return whether that is so."""
        stamp = await asyncio.to_thread(_stamp, self._file)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.fleet, self.principals = await asyncio.to_thread(self._again)
            self.trouble = ""
        except ConfigError as error:
            self.trouble = error.message
        return True

    def _again(self) -> tuple[Fleet, Principals | None]:
        fleet = self._open_fleet()
        return fleet, fleet.principals()


def _stamp(path: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """Return what changes with the files."""
    return tuple(map(_of_file, (path, *(path.parent / name for name in FILES))))


def _of_file(path: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino
    return None
