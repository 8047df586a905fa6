"""How fast the last push to each host was, as the folders of earlier runs tell."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from fleet.model import HostName
from fleet.runs import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENOUGH = 1 << 20
"""Bytes that a push must have sent to tell a speed: below, it was round trips that took the time."""


class Speeds:
    """What the runs in this state folder tell. They are read when the first host is asked for."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "runs"
        self._known: dict[HostName, float] | None = None

    def of(self, host: HostName) -> float | None:
        """Bytes a second of the newest push to the host that was big enough to tell."""
        if self._known is None:
            self._known = {}
            for run in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
                self._known.update(_pushes(run / EVENTS))
        return self._known.get(host)


def _pushes(record: Path) -> Iterator[tuple[HostName, float]]:
    # What cannot be read, or was cut or written otherwise by another version, tells nothing.
    with contextlib.suppress(OSError), record.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if '"push_finished"' not in line:  # most lines are not, and parsing them all takes seconds
                continue
            with contextlib.suppress(ValueError, KeyError, TypeError):
                event = json.loads(line)
                if event["event"] == "push_finished" and event["wire_bytes"] >= ENOUGH and event["seconds"] > 0:
                    yield HostName(event["host"]), event["wire_bytes"] / event["seconds"]
