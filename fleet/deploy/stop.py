"""Stop a run: the first request lets it begin nothing new, the second makes it leave at once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from fleet.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

T = TypeVar("T")


class Stop:
    """Ends the `fleet.plan` or `fleet.apply` that it was given to. Any thread may call `request`.

    After the first request planning ends, no further host begins, and hosts that began to switch are proven or go back.
    After the second, nobody waits for them: they go back by themselves, unless they commit first.
    """

    def __init__(self) -> None:
        self._requests = 0
        self._callbacks: list[tuple[asyncio.AbstractEventLoop, Callable[[], object]]] = []

    @property
    def is_requested(self) -> bool:
        """Whether somebody has asked the run to stop."""
        return self._requests > 0

    @property
    def is_insisted(self) -> bool:
        """Whether somebody has asked twice."""
        return self._requests > 1

    def request(self) -> None:
        """Ask the run to stop. Returns at once; the run ends soon."""
        self._requests += 1
        for loop, act in list(self._callbacks):
            with contextlib.suppress(RuntimeError):  # the loop is closed: its work has ended
                loop.call_soon_threadsafe(act)

    async def requested(self) -> None:
        """Wait until somebody asks to stop."""
        asked = asyncio.Event()
        with self.calls(asked.set):
            if not self.is_requested:
                await asked.wait()

    @contextlib.contextmanager
    def calls(self, act: Callable[[], object]) -> Iterator[None]:
        """Call `act` in the running loop at each further request, while inside."""
        entry = (asyncio.get_running_loop(), act)
        self._callbacks.append(entry)
        try:
            yield
        finally:
            self._callbacks.remove(entry)

    async def unless(self, work: Coroutine[object, object, T]) -> T:
        """Wait for `work` and return its result.

        At a request to stop, cancel it, wait until it has ended and raise `StoppedError`.
        """
        task = asyncio.ensure_future(work)
        with self.calls(task.cancel):
            if self.is_requested:
                task.cancel()
            try:
                return await task
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if self.is_requested and task.cancelled() and current is not None and not current.cancelling():
                    raise StoppedError from None
                raise
