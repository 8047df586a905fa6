"""Show progress in logs, in pipes and on terminals that cannot move: lines, and nothing that changes afterwards."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from fleet.events import Event, RunFinished
from fleet.output.board import Board
from fleet.output.format import one_line
from fleet.output.notices import Notices, Ticker
from fleet.output.stream import SafeStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fleet.model import HostName


class Teller(Protocol):
    """Decides what is written of the events of a run."""

    def lines(self, event: Event) -> list[str]:
        """Return what is written when this has happened."""
        ...

    def plan_shown(self) -> None:
        """Take note that a person was shown the plan."""
        ...

    def rest(self) -> list[str]:
        """Return what waits to be written at the end."""
        ...


class Plain:
    """Writes lines without colours or cursor movement, and what is waited for whenever nothing else is written.

    A context manager: what is waited for is written only inside. `clock` returns seconds.
    """

    def __init__(
        self,
        stream: TextIO,
        teller: Teller,
        *,
        board: Board | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = SafeStream(stream)
        self._teller = teller
        self._clock = clock
        self._board = board or Board(clock)
        self._notices = Notices(clock())
        self._lock = threading.Lock()
        self._is_paused = False
        self._ticker = Ticker(self.tick)

    def __enter__(self) -> Plain:
        self._ticker.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._ticker.__exit__()
        self._write(self._teller.rest())

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._board.see(event)
            self._write(self._teller.lines(event))
            self._is_paused = self._is_paused or isinstance(event, RunFinished)

    def close(self) -> None:
        """Say nothing any more of what is waited for."""
        self._is_paused = True

    def say(self, line: str) -> None:
        """Write a line that stays."""
        with self._lock:
            self._write([line])

    def wait_for(self, words: str, *, hosts: Sequence[HostName] = ()) -> None:
        """Note what is waited for, where no event tells it."""
        with self._lock:
            self._board.wait_for(words, hosts=hosts)

    def plan_shown(self) -> None:
        """Note that a person was shown the plan."""
        self._teller.plan_shown()

    def tick(self) -> None:
        """Write what is waited for if it is time for that."""
        with self._lock:
            subject, words = self._board.waited_for()
            if words and not self._is_paused and self._notices.is_due(subject, self._clock()):
                self._stream.write(f"fleet: {one_line(words)}\n")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Say nothing of what is waited for, while inside: for prompts."""
        self._is_paused = True
        try:
            yield
        finally:
            with self._lock:
                self._notices.written(self._clock())
                self._is_paused = False

    def _write(self, lines: list[str]) -> None:
        if lines:
            self._notices.written(self._clock())
            self._stream.write("".join(one_line(line) + "\n" for line in lines))
