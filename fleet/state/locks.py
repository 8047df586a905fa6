"""Locks on folders that end with their process: `flock`, as every version of fleet takes it."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def acquire(folder: Path, *, shared: bool = False) -> int | None:
    """Take the folder's lock and return a handle for `release`; None if another one holds it. Never waits.

    Holders in one process exclude each other like those in different ones. Shared holders do not exclude each other.
    Raise `OSError` if the folder does not exist or cannot be read.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except BaseException:
        os.close(handle)
        raise
    return handle


def release(handle: int) -> None:
    """Free the lock."""
    fcntl.flock(handle, fcntl.LOCK_UN)  # closing is not enough: a child that is being started may have it open too
    os.close(handle)


def is_of(handle: int, folder: Path) -> bool:
    """Whether the handle holds the folder that has this name now, and not one that was removed."""
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False
