"""The memory of processes and of all that they start."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

EVERY = 0.02
"""Seconds between two looks: what lives for less is seen by chance."""
PAGE = os.sysconf("SC_PAGESIZE")


class Watch:
    """While open, `peak` follows the resident bytes of the processes and their descendants, summed.

    Pages that several of them share count for each: it is an upper bound. Not the rusage of the processes: its
    maximum is that of their parent, whose memory they have until they are another program.
    """

    def __init__(self, roots: Iterable[int]) -> None:
        self._roots = tuple(roots)
        self._ended = threading.Event()
        self._known: set[int] = set()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.peak = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            there = {one: parent for root in self._roots for one, parent in family(root, os.getpid())}
            counted = (one for one, parent in there.items() if one in self._known or not _is_about_to_be(one, parent))
            self.peak = max(self.peak, sum(map(resident, counted)))
            self._known = set(there)
            if self._ended.wait(EVERY):
                return


def family(pid: int, parent: int) -> Iterator[tuple[int, int]]:
    """The process and its descendants, as far as they live, each with its parent."""
    yield pid, parent
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child), pid)
    except OSError:  # it has just ended
        return


def _is_about_to_be(pid: int, parent: int) -> bool:
    """Whether the process still is its parent, whose memory it borrows until it is another program."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() == Path(f"/proc/{parent}/cmdline").read_bytes()
    except OSError:  # it has just ended, or has no parent here
        return False


def resident(pid: int) -> int:
    """Bytes of the process that are in memory; none when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0
