"""The files that fleet keeps on this machine: in which folders they are, and how one is changed."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def cache_folder(name: str, environment: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CACHE_HOME/fleet/NAME`, for what can be made again. It may not exist yet."""
    return _base(environment.get("XDG_CACHE_HOME", ""), "~/.cache") / "fleet" / name


def state_folder(fleet: str, environment: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_STATE_HOME/fleet/NAME`, where the state of this fleet is. It may not exist yet."""
    return _base(environment.get("XDG_STATE_HOME", ""), "~/.local/state") / "fleet" / fleet


def _base(said: str, usual: str) -> Path:
    # A relative path is not valid and is to be ignored (XDG Base Directory Specification 0.8, "Basics").
    return Path(said) if Path(said).is_absolute() else Path(usual).expanduser()


def replace_file(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """The file has these bytes and this mode, or is as before; with `durable` also when the power fails meanwhile.

    Raises `OSError`.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(handle, mode)
            if durable:
                os.fsync(handle)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Nobody else who asks for this changes the folder meanwhile. Raises `OSError` where there is none."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
