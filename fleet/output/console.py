"""Show progress on a terminal: a live table at the bottom, and lasting facts that scroll above it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, TextIO, cast

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fleet.events import (
    CheckReported,
    Event,
    FindingReported,
    HostCondemned,
    HostFinished,
    RunFinished,
    RunInterrupted,
    RunStarted,
    WaveStarted,
)
from fleet.model import Outcome, Phase, Severity
from fleet.output.board import Board, Row
from fleet.output.facts import fact_lines
from fleet.output.format import one_line
from fleet.output.stream import SafeStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NARROW = 80
"""The terminal's width in columns below which there is no column for the last output."""
_WIDE = 100
"""The width in columns below which a push shows only its percentage."""


class Console:
    """Shows events on a terminal. A context manager, so that the terminal is given back as it was.

    An event only changes the board, under a lock; a thread of rich draws it. Nothing is printed while the lock is held,
    because that thread holds rich's lock when it wants ours.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        clock: Callable[[], float] = time.monotonic,
        rich_console: RichConsole | None = None,
        refresh_per_second: float = 8,
    ) -> None:
        self._console = rich_console or RichConsole(file=cast("IO[str]", SafeStream(stream)), highlight=False)
        self._board = Board(clock)
        self._lock = threading.Lock()
        self._refresh_per_second = refresh_per_second
        self._live = self._fresh_live()

    def _fresh_live(self) -> Live:
        """Return a new display that is not started.

        To start one twice would move up and erase as many lines as it had before.
        """
        return Live(
            self,
            console=self._console,
            auto_refresh=self._refresh_per_second > 0,
            refresh_per_second=self._refresh_per_second or 1,
            transient=True,
            redirect_stdout=False,
        )

    def __enter__(self) -> Console:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._board.see(event)
        for line in _lasting_lines(event):
            self._console.print(line)
        if isinstance(event, RunFinished):
            self._live.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Remove the table and show the cursor, while inside: for prompts."""
        was_live = self._live.is_started
        self._live.stop()
        try:
            yield
        finally:
            if was_live:
                self._live = self._fresh_live()
                self._live.start()

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        room = max(console.size.height - 4, 1)
        with self._lock:
            status = self._board.status()
            rows, hidden = self._board.visible(room)
            brief = options.max_width < _WIDE
            cells = [_cells(row, self._board.pushed(row, brief=brief), self._board.elapsed(row)) for row in rows]
        table = _table(cells, options.max_width)
        if rows:
            yield table
        for line in (status, hidden):
            if line:
                yield Text(line, style="dim", no_wrap=True, overflow="ellipsis")


def _lasting_lines(event: Event) -> list[Text]:
    """Return what stays on the terminal: facts that a person may want to read again."""
    match event:
        case FindingReported(severity=severity):
            style = "red" if severity is Severity.ERROR else "yellow"
        case CheckReported(passed=False) | HostCondemned():
            style = "red"
        case RunInterrupted():
            style = "bold yellow"
        case HostFinished(result=result) if result.outcome is not Outcome.UNCHANGED:
            style = _outcome_style(result.outcome)
        case RunStarted() | WaveStarted():
            style = "dim"
        case _:
            return []
    return [Text(one_line(line), style=style) for line in fact_lines(event)]


def _outcome_style(outcome: Outcome) -> str:
    if outcome.counts_against_run:
        return "red"
    return "green" if outcome in (Outcome.KEPT, Outcome.STAGED) else "dim"


def _cells(row: Row, pushed: str, elapsed: str) -> tuple[Text, Text, Text, Text, Text]:
    style = "cyan" if row.outcome is None else _outcome_style(row.outcome)
    if row.phase is Phase.REVERT and row.outcome is None:
        style = "red"
    state, last = Text(row.state(), style=style), Text(row.last, style="dim")
    return Text(row.host), state, Text(pushed), Text(elapsed), last


def _table(rows: list[tuple[Text, Text, Text, Text, Text]], width: int) -> Table:
    wide = width >= _NARROW
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(width // 3, 8))
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True, overflow="ellipsis", justify="right")
    if wide:
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.expand = True
    for cells in rows:
        table.add_row(*cells[: 5 if wide else 4])
    return table
