"""Compute how far pushes are, how fast, and how long they will take: for each host, and for all together."""

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
"""Seconds over which a rate is taken: long enough to be steady, short enough to notice that a link has become slow."""
SOONEST = 1.0
"""Seconds before there is a rate at all."""


@dataclass
class Meter:
    """Measures how fast bytes are sent."""

    sent: int = 0
    total: int = 0
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def see(self, now: float, sent: int, total: int) -> None:
        """Note that `sent` bytes of `total` were sent at the time `now`."""
        self.sent, self.total = sent, total
        self._seen.append((now, sent))
        while len(self._seen) > 1 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()

    def rate(self, now: float) -> float | None:
        """Return the latest rate in bytes per second; None if it is too early to tell."""
        if len(self._seen) < 2 or now - self._seen[0][0] < SOONEST:
            return None
        since, sent = next(((then, sent) for then, sent in reversed(self._seen) if then <= now - WINDOW), self._seen[0])
        return (self.sent - sent) / (now - since)

    def left(self, now: float) -> float | None:
        """Return the seconds until everything is sent, at that rate; None if that is never or cannot be told."""
        rate = self.rate(now)
        return (self.total - self.sent) / rate if rate and self.sent < self.total else None

    def words(self, now: float, *, least: float = 0.0) -> str:
        """Return `27% of 45.6 MiB, 3.1 MiB/s, 11 s left`, as far as it is known. At least `least` seconds are left."""
        if not self.total:
            return ""
        share = f"{min(100 * self.sent // self.total, 100)}% of {human_bytes(self.total)}"
        rate = self.rate(now)
        if rate is None or self.sent >= self.total:
            return share
        left = self.left(now)
        remaining = "" if left is None else f", {human_seconds(max(left, least))} left"
        return f"{share}, {human_bytes(round(rate))}/s{remaining}"


class Pushes:
    """Follows the pushes of a run. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._meters: dict[HostName, Meter] = {}
        self._all = Meter()
        """What all of them have sent and will have sent, kept up to date: to sum it up takes long for many hosts."""
        self._active: set[HostName] = set()

    def see(self, event: Event) -> None:
        """Take the event into account if it is about a push."""
        match event:
            case HostPlanned(host=host, wire_bytes=size) if size and event.wave:
                self._all.total += size - self._meter(host).total
                self._meter(host).total = size
            case PhaseStarted(host=host, phase=phase):
                (self._active.add if phase is Phase.PUSH else self._active.discard)(host)
            case PushProgressed(host=host, sent=sent, total=total):
                self._see(host, sent, total)
            case PushFinished(host=host, wire_bytes=size):
                self._see(host, size, size)
            case HostFinished(host=host) if host in self._meters:
                self._active.discard(host)
                self._all.total += self._meters[host].sent - self._meters[host].total
                self._meters[host].total = self._meters[host].sent  # nothing more will be sent

    def active(self) -> list[HostName]:
        """Return the hosts that are being pushed to."""
        return sorted(self._active)

    def words(self, host: HostName) -> str:
        """Return how far the push to the host is; nothing if there is none."""
        return self._meter(host).words(self._clock()) if host in self._active else ""

    def together(self) -> str:
        """Return how far all pushes of the run are, including those to come.

        Returns nothing for a single push, or before there is a rate. All of them take at least as long as the slowest
        one.
        """
        now = self._clock()
        if len(self._meters) < 2 or not self._active or self._all.rate(now) is None:
            return ""
        slowest = max(
            (self._meters[host].left(now) or 0.0 for host in self._active if host in self._meters), default=0.0
        )
        return f"push to {counted(len(self._meters), 'host')}: {self._all.words(now, least=slowest)}"

    def _see(self, host: HostName, sent: int, total: int) -> None:
        meter, now = self._meter(host), self._clock()
        self._all.see(now, self._all.sent + sent - meter.sent, self._all.total + total - meter.total)
        meter.see(now, sent, total)

    def _meter(self, host: HostName) -> Meter:
        return self._meters.setdefault(host, Meter())
