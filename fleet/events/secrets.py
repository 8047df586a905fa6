"""Events about secrets. They have names, and nothing of any value."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.events.kinds import HostEvent


@dataclass(frozen=True, kw_only=True)
class SecretsCompared(HostEvent):
    """The host has the values of its secrets in memory, and has compared them with what is in their places."""

    changed: tuple[str, ...]
    """The names of those that differ. They are written when the host switches."""
    same: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SecretsFilled(HostEvent):
    """After a reboot, which takes what is in memory, these secrets are in their places again."""

    secrets: tuple[str, ...]
