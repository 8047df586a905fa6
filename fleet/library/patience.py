"""Ask the state for what would be good to know, without waiting long for a database that somebody keeps locked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from fleet.errors import StateError
from fleet.state.threads import in_state

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
PATIENCE = 2.0
"""Seconds to wait for an answer."""


class Asking(Generic[T]):
    """Asks the state, in a thread. Whoever goes back must not wait for a database, and nobody else need.

    There is one question at a time, so that threads that wait do not pile up: the answer to one that came too late is
    the answer to the next.
    """

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._asked: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """Return the answer. Raise `StateError` if there is none, or none within `PATIENCE`.

        Whoever asks meanwhile gets the same answer.
        """
        asked = self._asked
        if asked is None:
            asked = self._asked = asyncio.ensure_future(in_state(self._ask))
            asked.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may come for it
        done, _ = await asyncio.wait([asked], timeout=PATIENCE)
        if not done:
            raise StateError(f"what this machine has recorded cannot be read within {PATIENCE:g} seconds")
        if self._asked is asked:  # others who waited for it may have asked anew
            self._asked = None
        return asked.result()
