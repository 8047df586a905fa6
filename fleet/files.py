"""Find the folders for files that fleet keeps on this machine, and change such files safely."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def cache_folder(name: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return `$XDG_CACHE_HOME/fleet/NAME`, for what can be made again. It may not exist yet."""
    return _base(environment.get("XDG_CACHE_HOME", ""), "~/.cache") / "fleet" / name


def state_folder(fleet: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return `$XDG_STATE_HOME/fleet/NAME`, for the state of this fleet. It may not exist yet."""
    return _base(environment.get("XDG_STATE_HOME", ""), "~/.local/state") / "fleet" / fleet


def _base(configured: str, usual: str) -> Path:
    # A relative path is not valid and is to be ignored (XDG Base Directory Specification 0.8, "Basics").
    return Path(configured) if Path(configured).is_absolute() else Path(usual).expanduser()


def read_file(path: Path, *, most: int) -> bytes:
    """Return the contents of the file. Raise `OSError` if it cannot be read, has more than `most` bytes, or is no file.

    A named pipe, which might never end or begin, is not opened to be read, nor is a device.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"has more than {most >> 10} KiB", str(path))
    return data


def replace_file(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Replace the file by one with these bytes and this mode, or leave it as it was.

    With `durable`, this holds even if the power fails meanwhile. Raise `OSError` if the file cannot be written.
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
    """Lock the folder, while inside, against others who do the same. Raise `OSError` if it does not exist."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
