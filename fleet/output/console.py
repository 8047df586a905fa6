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
    HostQueued,
    HostReplanned,
    OutputLine,
    PolicyApplied,
    RecordingLost,
    RecordingResumed,
    RolloutAsked,
    RunFinished,
    RunInterrupted,
    RunStarted,
    SoakFinished,
    SoakStarted,
    UndoStarted,
    WaveFinished,
    WaveStarted,
)
from fleet.model import Goal, Outcome, Phase, Severity
from fleet.output.board import Board
from fleet.output.facts import fact_lines
from fleet.output.findings import Findings
from fleet.output.format import one_line
from fleet.output.silence import Silence
from fleet.output.stream import SafeStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fleet.model import HostName
    from fleet.output.plain import Teller
    from fleet.output.rows import Row

_STATE = max(len("needs human"), *(len(phase.value) for phase in Phase))
_ELAPSED = len("59m 59s")
_MARGIN = 2


class Console:
    """Shows events on a terminal. A context manager, so that the terminal is given back as it was.

    An event only changes the board, under a lock; a thread of rich draws it. Nothing is printed while the lock is held,
    because that thread holds rich's lock when it wants ours. With `teller`, all that it tells scrolls above the table.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        teller: Teller | None = None,
        board: Board | None = None,
        clock: Callable[[], float] = time.monotonic,
        rich_console: RichConsole | None = None,
        refresh_per_second: float = 8,
    ) -> None:
        self._console = rich_console or RichConsole(file=cast("IO[str]", SafeStream(stream)), highlight=False)
        self._board = board or Board(clock)
        self._teller = teller
        self._findings = Findings()
        """Notes that wait until the first host begins, since people may be shown them in the plan before that."""
        self._is_dry = False
        self._lock = threading.Lock()
        self._refresh_per_second = refresh_per_second
        self._live = self._fresh_live()
        self._silence = Silence(stream)

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
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._tell_findings()
        self._stop()

    def close(self) -> None:
        """Remove the table for good."""
        self._stop()

    def _start(self) -> None:
        self._silence.begin()
        self._live.start()

    def _stop(self) -> None:
        self._live.stop()
        self._silence.end()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._board.see(event)
        if isinstance(event, FindingReported) and event.severity is Severity.NOTE and self._teller is None:
            self._findings.add(event)
            return
        if isinstance(event, WaveStarted | RunFinished):
            self._tell_findings()
        lines = self._teller.lines(event) if self._teller else self._dry_lines(event)
        told = [Text(one_line(line), style="dim") for line in lines]
        for line in _lasting_lines(event) or told:
            self._console.print(line)
        if isinstance(event, RunFinished):
            self.close()

    def plan_shown(self) -> None:
        """Note that a person was shown the plan, with what was found."""
        self._findings.forget()

    def _tell_findings(self) -> None:
        for line in self._findings.take():
            self._console.print(Text(one_line(line), style="yellow"))

    def _dry_lines(self, event: Event) -> list[str]:
        """Return what a switch would do, if that is what was asked for."""
        match event:
            case RunStarted(goal=goal):
                self._is_dry = goal is Goal.DRY_ACTIVATE
            case OutputLine(host=str(host), phase=Phase.SWITCH, text=text) if self._is_dry:
                return [f"{host}: {text}"]
        return []

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(Text(one_line(line)))

    def wait_for(self, words: str, *, hosts: Sequence[HostName] = ()) -> None:
        """Show what is waited for, where no event tells it."""
        with self._lock:
            self._board.wait_for(words, hosts=hosts)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Remove the table and show the cursor, while inside: for prompts."""
        was_live = self._live.is_started
        self._stop()
        try:
            yield
        finally:
            if was_live:
                self._live = self._fresh_live()
                self._start()

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        room = max(console.size.height - 4, 1)
        with self._lock:
            lines = [self._board.status(), self._board.whole()]
            rows, hidden = self._board.visible(room)
            cells = [_cells(row, self._board.elapsed(row), self._board.doing(row)) for row in rows]
            longest = self._board.longest_name
        if rows:
            yield _table(cells, longest, options.max_width)
        for line in (hidden, *lines):
            if line:
                yield Text(line, style="dim", no_wrap=True, overflow="ellipsis")


def _lasting_lines(event: Event) -> list[Text]:
    """Return what stays on the terminal: facts that a person may want to read again."""
    match event:
        case FindingReported(severity=severity):
            style = "red" if severity is Severity.ERROR else "yellow"
        case CheckReported(passed=False) | HostCondemned():
            style = "red"
        case HostQueued() | HostReplanned():
            style = "yellow"
        case RunInterrupted() | RolloutAsked() | UndoStarted() | PolicyApplied() | RecordingLost() | RecordingResumed():
            style = "bold yellow"
        case HostFinished(result=result) if result.outcome is not Outcome.UNCHANGED:
            style = _outcome_style(result.outcome)
        case RunStarted() | WaveStarted() | WaveFinished() | SoakStarted() | SoakFinished():
            style = "dim"
        case _:
            return []
    return [Text(one_line(line), style=style) for line in fact_lines(event)]


def _outcome_style(outcome: Outcome) -> str:
    if outcome.counts_against_run:
        return "red"
    return "green" if outcome in (Outcome.KEPT, Outcome.STAGED) else "dim"


def _cells(row: Row, elapsed: str, doing: str) -> tuple[Text, Text, Text, Text]:
    is_bad = row.phase is Phase.REVERT or bool(row.failing)
    state = Text(row.state(), style="red" if is_bad else "cyan" if row.is_active else "dim")
    return Text(row.host), state, Text(elapsed), Text(doing, style="red" if row.failing else "dim")


def _table(rows: list[tuple[Text, Text, Text, Text]], longest: int, width: int) -> Table:
    """Return a table whose columns stay where they are, whatever is in them. Names are cut off last."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, _MARGIN, 0, 0), expand=True)
    name = min(longest, max(width - _STATE - _MARGIN, 8))
    table.add_column(no_wrap=True, overflow="ellipsis", width=name)
    if width - name - _MARGIN >= _STATE:
        table.add_column(no_wrap=True, overflow="ellipsis", width=_STATE)
    if (left := width - name - _STATE - 2 * _MARGIN) >= _ELAPSED:
        table.add_column(no_wrap=True, overflow="ellipsis", width=_ELAPSED, justify="right")
        if left - _ELAPSED - _MARGIN > _MARGIN:
            table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for cells in rows:
        table.add_row(*cells[: len(table.columns)])
    return table
