"""Show events to people and scripts. Everything here subscribes to events, and knows nothing else."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from fleet.events import Emit, Envelope, Event, RunFinished, fan_out

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from fleet.model import HostName
    from fleet.output.board import Board
    from fleet.output.rows import Within


def _ignore(_: object) -> None:
    pass


def _nothing() -> None:
    pass


class WaitFor(Protocol):
    """Takes words for what is waited for, and the hosts that have not answered."""

    def __call__(self, words: str, *, hosts: Sequence[HostName] = ()) -> None: ...


def _ignore_waiting(words: str, *, hosts: Sequence[HostName] = ()) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Display:
    """Shows events, says what is waited for, and can make room for a question."""

    lines: Callable[[Envelope], None] = _ignore
    """Writes the events of a run in their envelopes, for scripts."""
    show: Emit = _ignore
    """Shows events, of a run or not, to people."""
    paused: Callable[[], AbstractContextManager[None]] = nullcontext
    """A context in which nothing moves on the terminal, for prompts."""
    wait_for: WaitFor = _ignore_waiting
    """Takes words for what is waited for where no event tells it; empty words end that. They show after two seconds."""
    wait_for_hosts: Callable[[Callable[[], Collection[HostName]]], None] = _ignore
    """Takes a function that returns the hosts that are contacted and have not answered yet."""
    say: Callable[[str], None] = _ignore
    """Writes a line to people that stays."""
    plan_shown: Callable[[], None] = _nothing
    """Takes note that a person was shown the plan, which need not be told again."""
    close: Callable[[], None] = _nothing
    """Ends what moves and what is said of waiting, before the display is left."""
    is_terminal: bool = False
    """Whether people look at a terminal with colours."""

    def __call__(self, envelope: Envelope) -> None:
        self.lines(envelope)
        self.show(envelope.event)


def is_capable(stream: TextIO) -> bool:
    """Return whether the stream is a terminal that can move its cursor. Those that call themselves dumb cannot."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("", "dumb", "unknown")


@contextmanager
def open_display(
    *,
    json: bool,
    stdout: TextIO,
    stderr: TextIO,
    is_terminal: bool,
    is_verbose: bool = False,
    within: Within | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Display]:
    """Open a display, while inside. `is_terminal` says whether stderr is one that moves; `clock` returns seconds.

    With `json` all events go to stdout as JSON lines, and stderr is only for errors. Otherwise progress goes to stderr,
    and the summary of `RunFinished` with its error to stdout. `within` returns the seconds that a check has.
    """
    if json:
        from fleet.output.jsonl import JsonLines

        yield Display(lines=JsonLines(stdout))
        return
    from fleet.output.board import Board

    board = Board(clock, within=within) if within is not None else Board(clock)
    opened = _on_terminal if is_terminal else _in_log
    with opened(board, stdout, stderr, is_verbose=is_verbose, clock=clock) as display:
        yield display


@contextmanager
def _on_terminal(
    board: Board, stdout: TextIO, stderr: TextIO, *, is_verbose: bool, clock: Callable[[], float]
) -> Iterator[Display]:
    from fleet.output.console import Console
    from fleet.output.verbose import Verbose

    with Console(stderr, teller=Verbose(clock) if is_verbose else None, board=board, clock=clock) as console:
        yield Display(
            show=fan_out(console, _summary_to(stdout)),
            paused=console.paused,
            wait_for=console.wait_for,
            wait_for_hosts=board.ask_for_contacted,
            say=console.say,
            close=console.close,
            plan_shown=console.plan_shown,
            is_terminal=True,
        )


@contextmanager
def _in_log(
    board: Board, stdout: TextIO, stderr: TextIO, *, is_verbose: bool, clock: Callable[[], float]
) -> Iterator[Display]:
    from fleet.output.brief import Brief
    from fleet.output.plain import Plain
    from fleet.output.verbose import Verbose

    with Plain(stderr, Verbose(clock) if is_verbose else Brief(), board=board, clock=clock) as plain:
        yield Display(
            show=fan_out(plain, _summary_to(stdout)),
            paused=plain.paused,
            wait_for=plain.wait_for,
            wait_for_hosts=board.ask_for_contacted,
            say=plain.say,
            close=plain.close,
            plan_shown=plain.plan_shown,
        )


def _summary_to(stream: TextIO) -> Emit:
    def emit(event: Event) -> None:
        if isinstance(event, RunFinished):
            from fleet.output.stream import SafeStream
            from fleet.output.summary import summary_lines

            lines = summary_lines(event, is_terminal=stream.isatty())
            SafeStream(stream).write("".join(f"{line}\n" for line in lines))

    return emit
