"""What unchanged flakes evaluated to: `$XDG_CACHE_HOME/fleet/evaluations/`, a file for each snapshot.

It may be deleted at any time. A file that cannot be read or is not what we write counts for nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.model import Closure, Derivation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Pair = tuple[Derivation, Closure]
KEEP = 32
"""Snapshots that are remembered, those that were used last."""
_STORE_PATH = re.compile(r"/nix/store/[0-9a-z]{32}-[^/\s]+")


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where this user's cache is. The folder may not exist yet."""
    base = environment.get("XDG_CACHE_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path("~/.cache").expanduser()
    return root / "fleet" / "evaluations"


def users_own() -> Evaluations:
    """The cache of who runs this."""
    return Evaluations(default_folder())


class Evaluations:
    """The cache in one folder. Any number of controllers may use it at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, digest: str) -> dict[str, Pair]:
        """By attribute, what is known of the snapshot."""
        file = self._file(digest)
        known = _read(file)
        if known:
            with contextlib.suppress(OSError):
                os.utime(file)
        return known

    def remember(self, digest: str, found: Mapping[str, Pair]) -> None:
        """This is known of the snapshot too, unless the folder cannot be written: then nothing is."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, mode=0o700, exist_ok=True)
            with self._alone():
                self._replace(self._file(digest), {**_read(self._file(digest)), **found})
                for old in sorted(self._folder.glob("*.json"), key=lambda file: -file.stat().st_mtime_ns)[KEEP:]:
                    old.unlink()

    def _file(self, digest: str) -> Path:
        return self._folder / f"{digest}.json"

    def _replace(self, file: Path, known: Mapping[str, Pair]) -> None:
        """The file has the new text, or still the old one."""
        handle, name = tempfile.mkstemp(dir=self._folder, prefix=".new-")
        try:
            with os.fdopen(handle, "w") as new:
                json.dump({"evaluated": known}, new)
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _read(file: Path) -> dict[str, Pair]:
    try:
        known = json.loads(file.read_bytes())["evaluated"]
        pairs = {attribute: (Derivation(derivation), Closure(path)) for attribute, (derivation, path) in known.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
    return {} if any(not _fits(*pair) for pair in pairs.values()) else pairs


def _fits(derivation: object, closure: object) -> bool:
    paths = [path for path in (derivation, closure) if isinstance(path, str) and _STORE_PATH.fullmatch(path)]
    return len(paths) == 2 and paths[0].endswith(".drv")
