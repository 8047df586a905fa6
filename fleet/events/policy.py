"""Events about who may do what. Like those of `kinds`, they are the public format of `--json`."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.events.kinds import Event
from fleet.model import HostName  # noqa: TC001 - pydantic reads it while running


@dataclass(frozen=True, kw_only=True)
class PolicyApplied(Event):
    """Rules of policy.toml speak about this run, and it goes on. Nothing was touched yet."""

    decisions: dict[HostName, str]
    """What the strictest rule says about each host: `deny`, `ask` or `allow`."""
    rules: tuple[str, ...]
    """The names of the rules that speak about it."""
    satisfied: str = ""
    """What satisfies the rules that ask: who has approved, or where the source is merged to."""
    broken_by: str = ""
    """Who goes on against the rules, by `break_glass`. Empty if nobody does."""
    reason: str = ""
    """Why they do, in their words."""
