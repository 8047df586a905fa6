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

    def words(self, now: float, *, brief: bool = False) -> str:
        """`27% of 45.6 MiB, 3.1 MiB/s, 11 s left`, as far as it is known; `brief` is the first part alone."""
        if not self.total:
            return ""
        share = f"{min(100 * self.sent // self.total, 100)}% of {human_bytes(self.total)}"
        rate = self.rate(now)
        if brief or rate is None or self.sent >= self.total:
            return share
        left = f", {human_seconds((self.total - self.sent) / rate)} left" if rate else ""
        return f"{share}, {human_bytes(round(rate))}/s{left}"


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
        """How far all pushes of the run are, those to come included; nothing where there is but one, or no rate yet."""
        now = self._clock()
        if len(self._meters) < 2 or not self._active or self._all.rate(now) is None:
            return ""
        return f"push to {counted(len(self._meters), 'host')}: {self._all.words(now)}"

    def _see_all(self) -> None:
        meters = self._meters.values()
        self._all.see(self._clock(), sum(one.sent for one in meters), sum(one.total for one in meters))

    def _meter(self, host: HostName) -> Meter:
        return self._meters.setdefault(host, Meter())
