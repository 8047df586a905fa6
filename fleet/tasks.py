"""Work at the same time, where the failure of one must not end the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


async def all_ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Every task has ended, whatever became of the others; only then the first error among them is raised.

    A task that was cancelled by itself is no error. When this is cancelled, so are all of them, and waited for. An
    `asyncio.TaskGroup` cancels the others at the first error, and raises groups of them.
    """
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
