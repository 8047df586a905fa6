"""Read the `events.jsonl` of a run, also one that fleet 0.1.0 has written."""

from __future__ import annotations

import calendar
import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

from fleet.events import DecodeError, Envelope, RunFinished, decode
from fleet.state.records import NOT_KEPT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet.model import RunId


def read_events(file: Path, run: RunId) -> list[Envelope]:
    """Return the events in the file that are worth keeping, numbered in order.

    Damaged lines are left out, and so is a last line that was cut when the controller died. A line without an envelope
    gets the run, the time in the run's id, or for the end of the run the time of the file. A file that cannot be read
    has no events.
    """
    begun = started_at(run)
    try:
        ended = file.stat().st_mtime
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return list(_numbered(_decoded(text, run, begun, round(ended, 3))))


def _decoded(text: str, run: RunId, begun: float, ended: float) -> Iterator[Envelope]:
    """Decode each line, with what a line without an envelope lacks."""
    for number, line in enumerate(text.split("\n"), 1):
        with contextlib.suppress(DecodeError):
            envelope = decode(line, seq=number)
            at = envelope.at or (ended if isinstance(envelope.event, RunFinished) else begun)
            yield dataclasses.replace(envelope, run=run, at=at)


def _numbered(envelopes: Iterator[Envelope]) -> Iterator[Envelope]:
    """Number the events that are kept. No number comes twice, even if only some lines have one."""
    last = 0
    for envelope in envelopes:
        last = max(envelope.seq, last + 1)
        if not isinstance(envelope.event, NOT_KEPT):
            yield dataclasses.replace(envelope, seq=last)


def started_at(run: RunId) -> float:
    """Return the time in the id of a run, in seconds since 1970; 0.0 if it has none."""
    try:
        return float(calendar.timegm(time.strptime(run.partition("-")[0], "%Y%m%dT%H%M%S")))
    except ValueError:
        return 0.0
