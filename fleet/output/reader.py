"""Notice that whoever reads the output has left, also while there is nothing to write."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import stat
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


async def reader_has_left(stream: TextIO) -> None:
    """Wait until nobody reads the stream any more. Of a file or a terminal that never comes to pass."""
    left, loop = asyncio.Event(), asyncio.get_running_loop()

    def wait(fd: int) -> None:
        poll = select.poll()
        poll.register(fd, 0)  # of an end that nobody reads the kernel tells unasked
        poll.poll()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(left.set)

    with contextlib.suppress(OSError, ValueError):  # it has no descriptor
        fd = stream.fileno()
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            threading.Thread(target=wait, args=(fd,), name="fleet-reader", daemon=True).start()
    await left.wait()
