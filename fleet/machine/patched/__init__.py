"""Patches of asyncssh. Everything that uses its private names is in this folder, and nothing else is.

| file | what it speeds up | where it is used |
|---|---|---|
| `bulk.py`, `packets.py` | sending much: 0.5 s of CPU for 1 GiB instead of 1.15 s | `fleet/machine/stream.py` |
| `window.py` | reading how far the host's window has opened, 20,000 times for 1 GB | `bulk.py` |
| `session.py` | starting a command in one round trip instead of three | `fleet/machine/sessions.py` |
| `privates.py` | nothing: lists the private names, what to check about them, and what would make them needless | |

Every patch is made for one minor version of asyncssh, and is used with that version only: another may mean something
else by the same name, and what `packets.py` does with the cipher leaves no room for guesses. With any other version,
and with `FLEET_PLAIN_SSH=1`, everything uses asyncssh's public functions: slower, with the same results. The tests of
pushing run both ways.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import asyncssh

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = "2.24"
"""The minor version of asyncssh that the patches were made for and are tested with."""
PLAIN = "FLEET_PLAIN_SSH"
"""The environment variable that switches all patches off when it is 1."""


def is_on() -> bool:
    """Whether asyncssh may be patched in this process now."""
    return os.environ.get(PLAIN) != "1" and asyncssh.__version__.split(".")[:2] == VERSION.split(".")


def fast_write(channel: Any) -> Callable[[bytes | memoryview], None] | None:
    """Return a function that writes quickly to the channel; None if it cannot be patched.

    Nobody else may write to the channel, and the data must not be changed after it was written.
    """
    if not is_on():
        return None
    from fleet.machine.patched import bulk  # it needs modules that another asyncssh may not have

    return bulk.fast_write(channel)
