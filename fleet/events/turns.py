"""The events of a host that waits for its turn. They are as public as those of `kinds`."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.events.kinds import HostEvent
from fleet.model import Closure, RunId  # noqa: TC001 - pydantic reads these while running


@dataclass(frozen=True, kw_only=True)
class HostQueued(HostEvent):
    """The host waits for its turn, since others are at work there. Told again whenever those are others."""

    waits_for: RunId
    """The run that has a transaction open there, or else the one that begins next."""
    whose: str
    """Who asked for that run, and from where: `bob from train`."""
    intent: str = ""
    since: int = 0
    """When it began, or came to wait: seconds since 1970, by the host's clock."""
    ahead: int = 0
    """How many runs wait there and come before this one."""


@dataclass(frozen=True, kw_only=True)
class HostReplanned(HostEvent):
    """The host's part of the plan was made anew, since others have changed the host while it waited for its turn."""

    closure: Closure
    running: Closure
    """What it runs now, and goes back to if the closure is not proven."""
    meanwhile: tuple[str, ...] = ()
    """What has happened there since the plan was made: a line for each transaction."""
