"""Events as JSON lines: stdout of `--json`, and `events.jsonl` in the run's folder."""

from __future__ import annotations

import json
from typing import TextIO

from fleet.events import Event, event_json
from fleet.output.stream import Sturdy


class JsonLines:
    """Writes each event as one ASCII line, flushed: what was written is true even if we die next."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = Sturdy(stream)

    def __call__(self, event: Event) -> None:
        self._stream.write(json.dumps(event_json(event)) + "\n")

    @property
    def error(self) -> OSError | None:
        """Why lines are missing at the end, if they are."""
        return self._stream.error
