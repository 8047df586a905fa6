"""Say what was found on a host that is not as it was declared."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.drift.baseline import Baseline


class Drift(enum.StrEnum):
    """The classes of drift, in the order in which they are told."""

    SYSTEM = "system"
    """It runs something else than was last deployed."""
    REBOOT = "reboot"
    """Something is live only after a reboot."""
    STORE = "store"
    """The contents of a store path are not what they were."""
    PACKAGES = "packages"
    """Programs and toolchains that somebody has installed by hand."""
    FILES = "files"
    """Files in /etc and units that the system does not declare."""
    ACCESS = "access"
    """Listeners, SSH keys, accounts and timers that it does not declare."""

    @property
    def can_be_accepted(self) -> bool:
        """Whether a baseline can say that it is meant to be so."""
        return self in (Drift.PACKAGES, Drift.FILES, Drift.ACCESS)


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something on a host that its system does not declare. Whether it is drift, the baseline tells."""

    drift: Drift
    kind: str
    """What sort of thing it is: docs/drift.md lists them."""
    id: str
    """What names it: a path, or `kind:name` for what has none."""
    message: str
    """What it is, in words, on one line."""
    path: str
    """Where it is."""
    owner: str = ""
    """The user it belongs to. Empty if that is not known."""
    at: int = 0
    """When it came or last changed: seconds since 1970, by the host's clock. 0 if that is not known."""
    cause: str
    """What has probably put it there."""
    fix: str
    """How to declare it, or to be rid of it."""
    sign: str = ""
    """What it is like. The same thing with another sign has changed. Empty where it only counts that it is there."""
    key: str = ""
    """What others belong to that came with it. Empty for none."""
    of: tuple[str, ...] = ()
    """The keys of what it belongs to. With the first of these that is drift too, it is one finding."""


@dataclass(frozen=True, kw_only=True)
class DriftFinding:
    """One change on a host that nobody declared, with all that came with it."""

    drift: Drift
    kind: str
    id: str
    """What `ignore_drift` in fleet.toml matches, beside the path."""
    message: str
    path: str
    owner: str
    at: int
    cause: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """What was found on a host, and how much was looked at."""

    findings: tuple[DriftFinding, ...]
    is_nixos: bool
    """Whether the system declares the whole host. Else what was there at the first commit is taken as declared."""
    baseline: float | None
    """When what was there was last accepted: seconds since 1970, by this machine's clock. None if it never was."""
    verified: int
    """How many store paths of the running system were compared with what Nix has recorded."""
    store_paths: int
    """How many it has."""
    incomplete: tuple[str, ...] = ()
    """The parts that could not be looked at as a whole."""
    more: tuple[str, ...] = ()
    """How many findings of which class are left out, where there are very many."""
    accepted: tuple[DriftFinding, ...] = field(default=())
    """What was accepted just now."""
    found: Baseline | None = None
    """What may be accepted: everything that is there and not declared."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know of how far the findings go."""
        notes = []
        if self.baseline is None and not self.is_nixos:
            notes.append(
                "no baseline, so packages, files and access are not judged: the next deployment takes what is there"
                " then, or fleet drift --accept what is there now"
            )
        notes += [f"not looked at as a whole: {part}" for part in self.incomplete]
        notes += [f"left out here: {more}" for more in self.more]
        return tuple(notes)
