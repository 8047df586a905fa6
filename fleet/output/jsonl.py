"""Write events as JSON lines: for stdout with `--json`, and for `events.jsonl` in the run's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from fleet.events import encode
from fleet.output.stream import SafeStream

if TYPE_CHECKING:
    from fleet.events import Envelope


class JsonLines:
    """Writes each event as one line of ASCII and flushes it, so that it is there even if this process dies next."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = SafeStream(stream)

    def __call__(self, envelope: Envelope) -> None:
        self._stream.write(encode(envelope) + "\n")
