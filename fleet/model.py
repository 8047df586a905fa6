"""The terms of this program as types. Nothing here does any work."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NewType

HostName = NewType("HostName", str)
Derivation = NewType("Derivation", str)
"""A `/nix/store/….drv` path that builds a closure."""
Closure = NewType("Closure", str)
"""A built system, `/nix/store/…-nixos-system-…` of NixOS."""
NOTHING = Closure(f"/nix/store/{'0' * 32}-nothing")
"""Stands for the system of a host or a profile that has none yet. The host program has it too."""
RunId = NewType("RunId", str)
"""One run, such as `20261120T042211-3fa9c1d2`: sorts by time, and is safe in names of files and units."""
RUN_ID = r"[0-9]{8}T[0-9]{6}-[0-9a-f]{6,}"
"""What a run id looks like, as a regular expression. Before 2026-12 its last part had six digits."""
Serial = NewType("Serial", str)
"""The number of a host's newest transaction, such as `41-8f3a09c2`: a count and a random word, drawn by the host.
`0-none` if it has had none."""


@dataclass(frozen=True, kw_only=True)
class DatabaseAddress:
    """Where a PostgreSQL database is, and how to connect to it. It has no password."""

    hosts: tuple[tuple[str, int | None], ...]
    """Names or addresses, each with its port, tried in order; or the folder of a Unix socket. Empty: the usual one."""
    database: str
    user: str | None = None
    """None for the user of this machine."""
    options: dict[str, str] = field(default_factory=dict)
    """Further connection parameters by libpq's names."""

    def __str__(self) -> str:
        """Return it as a person would write it, without the options."""
        hosts = ",".join(
            (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
            for host, port in self.hosts
            if not host.startswith("/")
        )
        return f"postgresql://{f'{self.user}@' if self.user else ''}{hosts}/{self.database}"


class Verb(enum.StrEnum):
    """What a person asked for."""

    DEPLOY = "deploy"
    PUSH = "push"
    ROLLBACK = "rollback"
    PLAN = "plan"
    RESUME = "resume"
    REBOOT = "reboot"


class Goal(enum.StrEnum):
    """What a host is left with, in the words of switch-to-configuration where it has them."""

    SWITCH = "switch"
    TEST = "test"
    BOOT = "boot"
    """Goes to the new system by way of a reboot, which alone proves a kernel."""
    DRY_ACTIVATE = "dry-activate"
    PUSH = "push"
    """The closure waits on the host, and nothing is switched."""

    @property
    def switches(self) -> bool:
        """Whether the running system changes."""
        return self not in (Goal.DRY_ACTIVATE, Goal.PUSH)


class Reboot(enum.StrEnum):
    """Whether hosts go to a new system by way of a reboot."""

    NEVER = "never"
    IF_NEEDED = "if-needed"
    ALWAYS = "always"


class Outcome(enum.StrEnum):
    """How one host ended. Each host has exactly one in each run."""

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
        """Whether the host is as wanted, or may be otherwise."""
        return self in (Outcome.KEPT, Outcome.UNCHANGED, Outcome.STAGED, Outcome.DEFERRED)

    @property
    def counts_against_run(self) -> bool:
        """Whether it counts for `max_failures`."""
        return self in (Outcome.FAILED, Outcome.ROLLED_BACK, Outcome.NEEDS_HUMAN)


class Phase(enum.StrEnum):
    """The phase of a run that a host is in, for people who watch."""

    WAITING = "waiting"
    PREFLIGHT = "preflight"
    EVALUATE = "evaluate"
    BUILD = "build"
    PUSH = "push"
    HOOK = "hook"
    SWITCH = "switch"
    REBOOT = "reboot"
    PROVE = "prove"
    COMMIT = "commit"
    REVERT = "revert"


class Severity(enum.StrEnum):
    """Whether a finding leaves the host out of the run: an error does; a note does not, unless the host may be away."""

    ERROR = "error"
    NOTE = "note"


class FailureKind(enum.StrEnum):
    """Why something did not end well: a stable word for scripts. docs/outcomes.md has a row for each."""

    ERROR = "error"
    CONFIG = "config"
    EVALUATION = "evaluation"
    BUILD = "build"
    STATE = "state"
    INTERRUPTED = "interrupted"
    HOST = "host"
    UNREACHABLE = "unreachable"
    AUTHENTICATION = "authentication"
    HOST_KEY = "host_key"
    COMMAND = "command"
    ANSWER = "answer"
    UNFIT = "unfit"
    LOCKED = "locked"
    STALE = "stale"
    QUARANTINED = "quarantined"
    PUSH = "push"
    SWITCH = "switch"
    UNHEALTHY = "unhealthy"
    SILENT = "silent"
    SUPERSEDED = "superseded"
    STUCK = "stuck"
    REPLACED = "replaced"
    IN_DOUBT = "in_doubt"
    SKIPPED = "skipped"
    HOOK = "hook"
    SECRET = "secret"
    WINDOW = "window"
    UNDONE = "undone"
    POLICY = "policy"
    GATE = "gate"
    BUG = "bug"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is wrong with a host or a flake, or that people should know: one line, with the remedy."""

    kind: str
    """A stable word for scripts."""
    message: str
    hint: str = ""
    severity: Severity = Severity.ERROR


@dataclass(frozen=True, kw_only=True)
class CheckAnswer:
    """The answer of one attempt at a check."""

    check: str
    passed: bool
    said: str
    """One short line for people."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a host did not end well: the five parts that people see, and that `--json` has."""

    kind: FailureKind
    message: str
    ran: str = ""
    said: tuple[str, ...] = ()
    now: str = ""
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class HostResult:
    """How one host ended in one run."""

    host: HostName
    outcome: Outcome
    closure: Closure | None = None
    """The closure that the run wanted there."""
    previous: Closure | None = None
    """The closure that ran before."""
    boot_default: bool | None = False
    """Whether the host boots the wanted closure next. None if what it boots cannot be read."""
    boot_proven: bool = False
    """Whether the host has booted with the kernel and the initrd of the wanted closure."""
    reboot_pending: bool = False
    seconds: float = 0.0
    failure: Failure | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def is_good(self) -> bool:
        """Whether the host is as wanted, or may be otherwise. One that is kept may have got unwell since."""
        return self.outcome.is_good and not (self.outcome is Outcome.KEPT and self.failure is not None)

    @property
    def counts_against_run(self) -> bool:
        """Whether it counts for `max_failures`."""
        return self.outcome.counts_against_run or (self.outcome is Outcome.KEPT and not self.is_good)
