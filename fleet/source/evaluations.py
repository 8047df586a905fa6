"""Cache what unchanged flakes evaluated to: `$XDG_CACHE_HOME/fleet/evaluations/`, with a file for each snapshot.

The folder may be deleted at any time. A file that cannot be read, or that fleet has not written so, is ignored.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import TYPE_CHECKING

from fleet.files import alone_in, cache_folder, read_file, replace_file
from fleet.model import Closure, Derivation
from fleet.text import parsed_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Pair = tuple[Derivation, Closure]
LARGEST = 64 << 20
"""The most bytes of a file that is read."""
KEEP = 32
"""The number of snapshots that are kept: those that were used last."""
_STORE_PATH = re.compile(r"/nix/store/[0-9a-z]{32}-[^/\s]+")


def users_own() -> Evaluations:
    """Return the cache of the user who runs this."""
    return Evaluations(cache_folder("evaluations"))


class Evaluations:
    """The cache in one folder. Any number of controllers may use it at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, digest: str) -> dict[str, Pair]:
        """Return what is known of the snapshot, by attribute."""
        file = self._file(digest)
        known = _read(file)
        if known:
            with contextlib.suppress(OSError):
                os.utime(file)
        return known

    def remember(self, digest: str, found: Mapping[str, Pair]) -> None:
        """Add what was found to what is known of the snapshot.

        If the folder cannot be written, nothing is remembered.
        """
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, mode=0o700, exist_ok=True)
            file = self._file(digest)
            with alone_in(self._folder):
                replace_file(file, json.dumps({"evaluated": {**_read(file), **found}}).encode())
                for old in sorted(self._folder.glob("*.json"), key=lambda file: -file.stat().st_mtime_ns)[KEEP:]:
                    old.unlink()

    def _file(self, digest: str) -> Path:
        return self._folder / f"{digest}.json"


def _read(file: Path) -> dict[str, Pair]:
    try:
        known = parsed_json(read_file(file, most=LARGEST))["evaluated"]
        pairs = {attribute: (Derivation(derivation), Closure(path)) for attribute, (derivation, path) in known.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
    return {} if any(not _fits(*pair) for pair in pairs.values()) else pairs


def _fits(derivation: object, closure: object) -> bool:
    paths = [path for path in (derivation, closure) if isinstance(path, str) and _STORE_PATH.fullmatch(path)]
    return len(paths) == 2 and paths[0].endswith(".drv")
