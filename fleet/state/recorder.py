"""Write the events of a run without making it wait. Events that have piled up are written in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Protocol

from fleet.errors import StateError
from fleet.state.interface import Recorder
from fleet.state.records import NOT_KEPT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from fleet.events import Envelope


class Write(Protocol):
    """How events get to the disk."""

    def __call__(self, envelopes: Sequence[Envelope], *, begins: bool) -> None:
        """Write all of these events or, with a `StateError`, none of them.

        If `begins`, the first one begins the record.
        """


class GroupCommit(Recorder):
    """Hands events to `write` from a thread of its own, which ends with `close`.

    An event that cannot be written is lost, except the first one: it is tried again with every later event, since a run
    without it has no beginning. This is a thread and not a task because SQLite blocks on locks and disks, and because a
    run may end together with its loop.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._queue: queue.SimpleQueue[Envelope | Callable[[], None] | None] = queue.SimpleQueue()
        self._first: Envelope | None = None
        self._is_begun = False
        self._has_gap = False
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
            is_over = items[-1] is None
            batch = [item for item in items if item is not None and not callable(item)]
            if batch:
                self._write_batch(batch)
            for item in items:
                if callable(item):
                    item()

    def _gather(self) -> list[Envelope | Callable[[], None] | None]:
        """Wait for an item, and return it with all that has piled up behind it, up to the end mark."""
        items = [self._queue.get()]
        with contextlib.suppress(queue.Empty):
            while items[-1] is not None:
                items.append(self._queue.get_nowait())
        return items

    def _write_batch(self, batch: list[Envelope]) -> None:
        if self._first is None:
            self._first = batch[0]
        elif not self._is_begun:
            batch = [self._first, *batch]
        try:
            self._write(batch, begins=not self._is_begun)
        except StateError as error:
            self._note_loss(error, batch)
        except Exception as error:  # a bug must not end the thread: `flush` would wait forever
            why = f"this machine cannot record what it does: {error!r}; this is a bug in fleet"
            self._note_loss(StateError(why), batch)
        else:
            self._is_begun = True
            if not self._has_gap:  # nothing is missing: only the first event was late
                self._lost = None

    def _note_loss(self, error: StateError, batch: Sequence[Envelope]) -> None:
        """Remember the first error, and whether the record has a gap that cannot be filled."""
        self._lost = self._lost or error
        self._has_gap = self._has_gap or self._is_begun or len(batch) > 1
