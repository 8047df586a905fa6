"""How far pushes are, how fast, and how long they will take: for each host, and for all together."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.events import Event, HostFinished, HostPlanned, PhaseStarted, PushFinished, PushProgressed
from fleet.model import HostName, Phase
from fleet.output.format import counted, human_bytes, human_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 10.0
"""Seconds over which a rate is taken: long enough to be steady, short enough to tell that a link has become slow."""
SOONEST = 1.0
"""Seconds after which there is a rate at all."""


@dataclass
class Meter:
    """Bytes that go, by the clock's seconds."""

    sent: int = 0
    total: int = 0
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def see(self, now: float, sent: int, total: int) -> None:
        """So much has gone, of so much."""
        self.sent, self.total = sent, total
        self._seen.append((now, sent))
        while len(self._seen) > 1 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()

    def rate(self, now: float) -> float | None:
        """Bytes a second lately; None as long as nothing can be said."""
        if len(self._seen) < 2 or now - self._seen[0][0] < SOONEST:
            return None
        since, sent = next(((then, sent) for then, sent in reversed(self._seen) if then <= now - WINDOW), self._seen[0])
        return (self.sent - sent) / (now - since)

    def left(self, now: float) -> float | None:
        """Seconds until all has gone, at that rate; None where that is never, or cannot be said."""
        rate = self.rate(now)
        return (self.total - self.sent) / rate if rate and self.sent < self.total else None

    def words(self, now: float, *, brief: bool = False, least: float = 0.0) -> str:
        """`27% of 45.6 MiB, 3.1 MiB/s, 11 s left`, as far as it is known; `brief` is the first part alone.

        Not less than `least` seconds are left.
        """
        if not self.total:
            return ""
        share = f"{min(100 * self.sent // self.total, 100)}% of {human_bytes(self.total)}"
        rate = self.rate(now)
        if brief or rate is None or self.sent >= self.total:
            return share
        left = self.left(now)
        told = "" if left is None else f", {human_seconds(max(left, least))} left"
        return f"{share}, {human_bytes(round(rate))}/s{told}"


class Pushes:
    """Follows the pushes of a run. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._meters: dict[HostName, Meter] = {}
        self._all = Meter()
        self._active: set[HostName] = set()

    def see(self, event: Event) -> None:
        """The event counts, if it is about a push."""
        match event:
            case HostPlanned(host=host, wire_bytes=size) if size and event.wave:
                self._meter(host).total = size
            case PhaseStarted(host=host, phase=phase):
                (self._active.add if phase is Phase.PUSH else self._active.discard)(host)
            case PushProgressed(host=host, sent=sent, total=total):
                self._meter(host).see(self._clock(), sent, total)
                self._see_all()
            case PushFinished(host=host, wire_bytes=size):
                self._meter(host).see(self._clock(), size, size)
                self._see_all()
            case HostFinished(host=host) if host in self._meters:
                self._active.discard(host)
                self._meters[host].total = self._meters[host].sent  # whatever is left will not go any more

    def active(self) -> list[HostName]:
        """The hosts that are being pushed to."""
        return sorted(self._active)

    def words(self, host: HostName, *, brief: bool = False) -> str:
        """How far the push to the host is; nothing where there is none."""
        return self._meter(host).words(self._clock(), brief=brief) if host in self._active else ""

    def together(self) -> str:
        """How far all pushes of the run are, those to come included; nothing where there is but one, or no rate yet.

        What is left takes as long as the slowest push does, whatever the others are done with.
        """
        now = self._clock()
        if len(self._meters) < 2 or not self._active or self._all.rate(now) is None:
            return ""
        slowest = max(
            (self._meters[host].left(now) or 0.0 for host in self._active if host in self._meters), default=0.0
        )
        return f"push to {counted(len(self._meters), 'host')}: {self._all.words(now, least=slowest)}"

    def _see_all(self) -> None:
        meters = self._meters.values()
        self._all.see(self._clock(), sum(one.sent for one in meters), sum(one.total for one in meters))

    def _meter(self, host: HostName) -> Meter:
        return self._meters.setdefault(host, Meter())
