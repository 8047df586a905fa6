"""Write the events of a run without making it wait. Events that have piled up are written in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Protocol

from fleet.errors import StateError
from fleet.state.interface import Recorder
from fleet.state.records import NOT_KEPT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from fleet.events import Envelope

AGAIN = 1.0
"""Seconds after which it is tried again to write what could not be written, if nothing else happens."""


class Write(Protocol):
    """How events get to the disk."""

    def __call__(self, envelopes: Sequence[Envelope], *, begins: bool) -> None:
        """Write all of these events. If `begins`, the first one begins the record.

        With a `StateError` none is written, as far as is known. Those that were written all the same may be written
        again.
        """


class GroupCommit(Recorder):
    """Hands events to `write` from a thread of its own, which ends with `close`.

    What cannot be written is tried again, with all that comes after it, until the end. This is a thread and not a task
    because databases block on locks, disks and networks, and because a run may end together with its loop.
    """

    def __init__(
        self,
        write: Write,
        *,
        patience: Callable[[StateError], float] = lambda _: 0.0,
        on_behind: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """After a first error, `flush` waits for as many seconds as `patience` says that what failed may be back.

        `on_behind` hears from the thread when something could not be written, and when all of it is written after all.
        """
        self._write = write
        self._patience = patience
        self._on_behind = on_behind
        self._queue: queue.SimpleQueue[Envelope | Callable[[], None] | None] = queue.SimpleQueue()
        self._behind: list[Envelope] = []
        self._flushes: list[Callable[[], None]] = []
        self._is_begun = False
        self._has_gap = False
        self._has_failed = False
        """Whether the last attempt has failed."""
        self._again = 0.0
        """When what could not be written is tried again, if nobody waits for it."""
        self._waits_until = 0.0
        """Until when those who `flush` wait, since the database may be back by then."""
        self._lost: StateError | None = None
        self._is_closed = False
        self._closing = threading.RLock()  # reentrant: a signal handler may call `record` while `record` runs
        self._thread = threading.Thread(target=self._work, name="fleet-recorder", daemon=True)
        self._thread.start()

    def record(self, envelope: Envelope) -> None:
        if not isinstance(envelope.event, NOT_KEPT) and not self._put(envelope):
            self._lost = StateError("this machine has not recorded what was told after the end of the run")

    async def flush(self) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not done.done():  # not cancelled meanwhile
                done.set_result(None)

        def wake_in_loop() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
                loop.call_soon_threadsafe(wake)

        if self._put(wake_in_loop):
            await done
        if self._lost is not None:
            raise StateError(self._lost.message, hint=self._lost.hint)

    @property
    def lost(self) -> StateError | None:
        return self._lost

    def close(self) -> None:
        with self._closing:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)
        self._thread.join()

    def __enter__(self) -> GroupCommit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _put(self, item: Envelope | Callable[[], None]) -> bool:
        """Hand an item to the thread. Returns False if the thread will not see it."""
        with self._closing:
            if not self._is_closed:
                self._queue.put(item)
            return not self._is_closed

    def _work(self) -> None:
        """Write what has piled up, again and again, until the end of the queue."""
        is_over = False
        while not is_over:
            items = self._gather()
            is_over = bool(items) and items[-1] is None
            for item in items:
                if callable(item):
                    self._flushes.append(item)
                elif item is not None:
                    self._behind.append(item)
            if self._behind and (is_over or self._flushes or time.monotonic() >= self._again):
                self._write_what_is_behind()
            if is_over or time.monotonic() >= self._waits_until:
                for wake in self._flushes:
                    wake()
                self._flushes.clear()

    def _gather(self) -> list[Envelope | Callable[[], None] | None]:
        """Wait for an item, and return it with all that has piled up behind it, up to the end mark.

        Returns nothing if it is time to try again.
        """
        items: list[Envelope | Callable[[], None] | None] = []
        with contextlib.suppress(queue.Empty):
            items.append(self._queue.get(timeout=AGAIN if self._behind else None))
            while items[-1] is not None:
                items.append(self._queue.get_nowait())
        return items

    def _write_what_is_behind(self) -> None:
        try:
            self._write(self._behind, begins=not self._is_begun)
        except StateError as error:
            self._again = time.monotonic() + AGAIN  # it may be much by now, and each attempt writes all of it
            if not self._has_failed:
                self._has_failed = True
                self._waits_until = time.monotonic() + self._patience(error)
                self._on_behind(True)  # noqa: FBT003 - it says so
            self._lost = self._lost or error
        except Exception as error:  # a bug must not end the thread: `flush` would wait forever
            why = f"this machine cannot record what it does: {error!r}; this is a bug in fleet"
            self._lost = self._lost or StateError(why)
            self._has_gap = True
            self._behind = self._behind[: 0 if self._is_begun else 1]  # a run needs its beginning
        else:
            self._behind = []
            self._is_begun = True
            if self._has_failed:
                self._has_failed, self._waits_until = False, 0.0
                self._on_behind(False)  # noqa: FBT003 - it says so
            if not self._has_gap:
                self._lost = None
