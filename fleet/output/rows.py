"""Describe what happens to one host now, and which of its checks fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.model import HostName, Outcome, Phase
from fleet.output.facts import outcome_words
from fleet.output.format import human_seconds, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.events import CheckReported

    Within = Callable[[HostName, str], float | None]
    """Returns the seconds that a check has to pass within; None if they are not known."""


@dataclass
class FailingCheck:
    """A check that fails after the switch."""

    answer: str
    since: float
    """When its time began to count, by the clock."""


@dataclass
class Row:
    """The present state of one host. Times are the clock's."""

    host: HostName
    phase: Phase = Phase.WAITING
    began: float | None = None
    """When something first happened to this host alone."""
    last: str = ""
    outcome: Outcome | None = None
    switched: float | None = None
    """When its checks began to count."""
    failing: dict[str, FailingCheck] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)
    """The checks that have passed since the switch."""

    @property
    def is_active(self) -> bool:
        """Whether something happens to the host now."""
        return self.began is not None and self.outcome is None

    def state(self) -> str:
        """Return the phase, or the outcome once there is one."""
        return self.phase.value if self.outcome is None else outcome_words(self.outcome)

    def begin_anew(self) -> None:
        """Note that the host has no outcome any more, since something else is done to it."""
        self.phase, self.outcome, self.last = Phase.WAITING, None, ""
        self.failing.clear()

    def enter(self, phase: Phase, now: float) -> None:
        """Note that the host has entered a phase."""
        if phase is not self.phase:
            self.failing.clear()
        self.phase = phase
        if phase is Phase.PROVE:
            self.switched = now
        if self.began is None and phase is not Phase.WAITING:
            self.began = now

    def see_check(self, event: CheckReported, now: float) -> None:
        """Note the answer of a check. Only after the switch does one decide anything."""
        if event.stage != "after":
            return
        if event.passed:
            self.failing.pop(event.check, None)
            self.passed.add(event.check)
            return
        known = self.failing.get(event.check)
        since = now if self.switched is None or event.check in self.passed else self.switched
        since = known.since if known else since
        self.failing[event.check] = FailingCheck(one_line(event.answer), since)

    def check_words(self, within: Within, now: float) -> str:
        """Return `web: 503, wanted 200; gives up in 2 s` for the failing check with the least time left, or nothing."""
        lefts = []
        for name, check in self.failing.items():
            limit = within(self.host, name)
            lefts.append((float("inf") if limit is None else check.since + limit - now, name, check.answer))
        if not lefts:
            return ""
        left, name, answer = min(lefts)
        words = f"{name}: {answer}" if answer else f"{name} fails"
        return words if left == float("inf") else f"{words}; gives up in {human_seconds(left)}"
