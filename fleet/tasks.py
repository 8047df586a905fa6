"""Run tasks side by side of which one failure must not end the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


async def wait_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Wait until every task has ended, then raise the first error among them.

    A task that was cancelled by itself is not an error. When this is cancelled, all tasks are cancelled and awaited. An
    `asyncio.TaskGroup`, in contrast, cancels the other tasks at the first error, and raises groups of errors.
    """
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended


def first(error: BaseException) -> BaseException:
    """Return the first exception in nested groups that is not a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
