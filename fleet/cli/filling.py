"""Fill the secrets of hosts again that a reboot has taken, as a part of `fleet deliver --watch`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from fleet.errors import FleetError, StoppedError, UnreachableError
from fleet.output.format import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet import Fleet, Stop
    from fleet.inventory import Host

INTERVAL = 10.0
"""Seconds between two looks at the hosts that have secrets in memory."""
AGAIN, SELDOM = 60.0, 3600.0
"""Seconds before the next attempt at a host that could not be filled, and the longest that they become."""


class Filler:
    """Looks now and then at the hosts that have secrets in memory, and fills what a reboot has taken."""

    def __init__(self, fleet: Fleet, hosts: Sequence[Host], stop: Stop, tell: Callable[[str], None]) -> None:
        """`tell` writes a line for people."""
        self._fleet = fleet
        self._stop = stop
        self._write = tell
        self._hosts = [host for host in hosts if any(secret.is_volatile for secret in host.secrets.values())]
        self._pauses: dict[str, tuple[float, float]] = {}
        """How long each host that could not be filled gets no further attempt, and until when."""
        self._told: dict[str, str] = {}

    async def go_on(self) -> None:
        """Fill hosts until somebody asks for the end."""
        while self._hosts and not self._stop.is_requested:
            await self.fill()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.requested(), INTERVAL)

    async def fill(self) -> None:
        """Fill the hosts that lack some. What becomes of it is told once."""
        now = time.monotonic()
        due = [host.name for host in self._hosts if self._pauses.get(host.name, (0.0, 0.0))[1] <= now]
        if not due:
            return
        try:
            answers = await self._stop.unless(self._fleet.fill_secrets(*due))
        except StoppedError:
            return
        for name, answer in answers.items():
            if isinstance(answer, UnreachableError):
                continue
            if isinstance(answer, FleetError):
                self._put_off(name)
                self._tell(name, f"its secrets could not be filled: {answer.message}")
                continue
            self._pauses.pop(name, None)
            if answer is not None:
                self._tell(name, f"has its secrets again: {', '.join(answer.changed)}")
            self._told.pop(name, None)

    def _put_off(self, name: str) -> None:
        before = self._pauses.get(name, (AGAIN / 2, 0.0))[0]
        pause = min(2 * before, SELDOM)
        self._pauses[name] = (pause, time.monotonic() + pause)

    def _tell(self, name: str, text: str) -> None:
        if self._told.get(name) != text:
            self._told[name] = text
            self._write(one_line(f"{name}: {text}"))
