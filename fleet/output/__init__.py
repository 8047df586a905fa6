"""Show events to people and scripts. Everything here subscribes to events, and knows nothing else."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from fleet.events import Emit, Envelope, Event, RunFinished, fan_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _ignore(_: object) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Display:
    """Shows events, and can make room for a question."""

    lines: Callable[[Envelope], None] = _ignore
    """Writes the events of a run in their envelopes, for scripts."""
    show: Emit = _ignore
    """Shows events, of a run or not, to people."""
    paused: Callable[[], AbstractContextManager[None]] = nullcontext
    """A context in which nothing moves on the terminal, for prompts."""

    def __call__(self, envelope: Envelope) -> None:
        self.lines(envelope)
        self.show(envelope.event)


@contextmanager
def open_display(
    *,
    json: bool,
    stdout: TextIO,
    stderr: TextIO,
    is_terminal: bool,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Display]:
    """Open a display, while inside. `is_terminal` says whether stderr is one; `clock` returns seconds.

    With `json` all events go to stdout as JSON lines, and stderr is only for errors. Otherwise progress goes to stderr,
    and the summary of `RunFinished` with its error to stdout.
    """
    if json:
        from fleet.output.jsonl import JsonLines

        yield Display(lines=JsonLines(stdout))
    elif is_terminal:
        from fleet.output.console import Console

        with Console(stderr, clock=clock) as console:
            yield Display(show=fan_out(console, _summary_to(stdout)), paused=console.paused)
    else:
        from fleet.output.plain import Plain

        yield Display(show=fan_out(Plain(stderr, clock=clock), _summary_to(stdout)))


def _summary_to(stream: TextIO) -> Emit:
    def emit(event: Event) -> None:
        if isinstance(event, RunFinished):
            from fleet.output.stream import SafeStream
            from fleet.output.summary import summary_lines

            lines = summary_lines(event, is_terminal=stream.isatty())
            SafeStream(stream).write("".join(f"{line}\n" for line in lines))

    return emit
