"""The words of this program as types. Nothing here does anything."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NewType

HostName = NewType("HostName", str)
Derivation = NewType("Derivation", str)
"""A `/nix/store/….drv` path that builds a closure."""
Closure = NewType("Closure", str)
"""A built NixOS system, `/nix/store/…-nixos-system-…`."""
RunId = NewType("RunId", str)
"""One deployment, `20261120T042211-3fa9c1`: sorts by time, safe in file and unit names."""


class Goal(enum.StrEnum):
    """What a deployment should leave behind, in switch-to-configuration's words."""

    SWITCH = "switch"
    TEST = "test"
    BOOT = "boot"
    """By way of a reboot, which alone proves a kernel."""
    DRY_ACTIVATE = "dry-activate"

    @property
    def switches(self) -> bool:
        """Whether the running system changes."""
        return self is not Goal.DRY_ACTIVATE


class Reboot(enum.StrEnum):
    """Whether hosts are brought to a new system by way of a reboot."""

    NEVER = "never"
    IF_NEEDED = "if-needed"
    ALWAYS = "always"


class Outcome(enum.StrEnum):
    """How one host ended. design: exactly one per host and run."""

    KEPT = "kept"
    UNCHANGED = "unchanged"
    STAGED = "staged"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    DEFERRED = "deferred"
    SKIPPED = "skipped"
    NEEDS_HUMAN = "needs_human"

    @property
    def is_good(self) -> bool:
        """Whether the host is as wanted, or was allowed not to be."""
        return self in (Outcome.KEPT, Outcome.UNCHANGED, Outcome.STAGED, Outcome.DEFERRED)

    @property
    def counts_against_run(self) -> bool:
        """Whether `max_failures` counts it."""
        return self in (Outcome.FAILED, Outcome.ROLLED_BACK, Outcome.NEEDS_HUMAN)


class Phase(enum.StrEnum):
    """Where a host is in a run, for people who watch."""

    WAITING = "waiting"
    PREFLIGHT = "preflight"
    EVALUATE = "evaluate"
    BUILD = "build"
    PUSH = "push"
    SWITCH = "switch"
    REBOOT = "reboot"
    PROVE = "prove"
    COMMIT = "commit"
    REVERT = "revert"


class Severity(enum.StrEnum):
    """An error leaves the host out of the run; a note never does."""

    ERROR = "error"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a host did not end well: the five parts that people see, and `--json` carries."""

    kind: str
    """Stable word for scripts: `unreachable`, `locked`, `quarantined`, `unhealthy`, …"""
    message: str
    ran: str = ""
    said: tuple[str, ...] = ()
    now: str = ""
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class HostResult:
    """What became of one host in one run."""

    host: HostName
    outcome: Outcome
    closure: Closure | None = None
    """The closure the run wanted there."""
    previous: Closure | None = None
    """What ran before."""
    boot_default: bool = False
    """Whether the wanted closure is what the host boots next."""
    boot_proven: bool = False
    """Whether the wanted closure's kernel and initrd are the ones the host has booted."""
    reboot_pending: bool = False
    seconds: float = 0.0
    failure: Failure | None = None
    notes: tuple[str, ...] = field(default=())
