"""What people and scripts see. Subscribers of events; they know nothing else."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from fleet.events import Emit, Event, RunFinished, fan_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Output:
    """An `Emit` that can also step aside while somebody is asked a question."""

    emit: Emit
    paused: Callable[[], AbstractContextManager[None]] = nullcontext
    """While open, nothing moves on the terminal: for prompts."""

    def __call__(self, event: Event) -> None:
        self.emit(event)


@contextmanager
def open_output(
    *,
    json: bool,
    stdout: TextIO,
    stderr: TextIO,
    is_terminal: bool,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Output]:
    """Events reach their readers while open; `is_terminal` is about stderr, `clock` counts seconds.

    With `json` all events go to stdout as JSON lines, and stderr stays free for errors. Otherwise progress
    goes to stderr, and the summary of `RunFinished`, its error included, to stdout.
    """
    if json:
        from fleet.output.jsonl import JsonLines

        yield Output(JsonLines(stdout))
    elif is_terminal:
        from fleet.output.console import Console

        with Console(stderr, clock=clock) as console:
            yield Output(fan_out(console, _summary_to(stdout)), console.paused)
    else:
        from fleet.output.plain import Plain

        yield Output(fan_out(Plain(stderr, clock=clock), _summary_to(stdout)))


def _summary_to(stream: TextIO) -> Emit:
    def emit(event: Event) -> None:
        if isinstance(event, RunFinished):
            from fleet.output.stream import Sturdy
            from fleet.output.summary import summary_lines

            lines = summary_lines(event, is_terminal=stream.isatty())
            Sturdy(stream).write("".join(f"{line}\n" for line in lines))

    return emit
