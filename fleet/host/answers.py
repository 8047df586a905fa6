"""What the host program answers: `key=value` lines become values. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from fleet.host.obstacles import PARTS, inhibitors, nvidia_version
from fleet.model import Closure, RunId

Lines = dict[str, list[str]]


def parse(text: str) -> Lines:
    """The values of each key, in order. Lines without `=` are not ours: a login banner, say."""
    lines: Lines = {}
    for line in text.split("\n"):  # and at nothing else: what a switch wrote may hold any other separator
        key, separator, value = line.partition("=")
        if separator:
            lines.setdefault(key, []).append(value)
    return lines


def one(lines: Lines, key: str) -> str:
    """The last value of the key, or nothing."""
    return lines.get(key, [""])[-1]


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"\s*-?[0-9]{1,18}\s*", text) else 0


@dataclass(frozen=True, kw_only=True)
class OpenTransaction:
    """A transaction that is open on a host: whose it is, and when it closes by itself."""

    run: RunId
    state: str
    who: str
    origin: str
    since: int
    """Seconds since 1970, by the host's clock."""
    closes_in: int
    """Seconds; not positive when the keeper is already acting."""
    new: Closure
    old: Closure
    by_reboot: bool = False
    """Whether the new system is booted on trial."""

    def __str__(self) -> str:
        by = f"{self.who} from {self.origin}" if self.origin else self.who
        return f"run {self.run} of {by}, {self.state}"


@dataclass(frozen=True, kw_only=True)
class LastTransaction:
    """The newest transaction that ended on a host."""

    run: RunId
    state: str
    new: Closure
    old: Closure
    by_reboot: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """What a host is and runs, as one contact found it."""

    machine: str
    """`uname -m`"""
    nix: str
    store_writable: bool
    running: Closure
    profile: Closure
    generation: str
    booted: str
    boot_default: Closure | None
    """None where no boot loader's files could be read."""
    running_parts: dict[str, str] = field(default_factory=dict)
    booted_parts: dict[str, str] = field(default_factory=dict)
    inhibitors: dict[str, str] = field(default_factory=dict)
    specialisations: tuple[Closure, ...] = ()
    """Of the profile."""
    nix_free: int
    """Bytes."""
    boot_free: int | None
    """Bytes; None where there is no /boot."""
    failed_units: tuple[str, ...] = ()
    upgrade_unit: str = ""
    """The unit of an automatic upgrade that is active."""
    init_interface: str = ""
    """Of the running system: a live switch to another is refused."""
    nvidia: str = ""
    """The version of the NVIDIA driver that the kernel has loaded."""
    running_nvidia: str = ""
    """The version of the running system's own; empty where none is loaded."""
    has_zstd: bool = False
    """Whether it can read what is compressed for a thin link."""
    boots_once: bool = False
    """Whether the boot loader can boot an entry for one boot, and the default after it."""
    boots_not_once: str = ""
    """Why it cannot."""
    lock_holder: str = ""
    """`PID NAME` of who holds switch-to-configuration's lock."""
    live: Closure | None = None
    previous: Closure | None = None
    staged: Closure | None = None
    """What was pushed last and not switched to since."""
    quarantined: tuple[Closure, ...] = ()
    doubtful: tuple[RunId, ...] = ()
    """Runs amid whose pushes the host went down: what came by them may be damaged, though its Nix calls it valid."""
    transaction: OpenTransaction | None = None
    last: LastTransaction | None = None

    @property
    def reboot_pending(self) -> tuple[str, ...]:
        """The parts of the running system that the kernel was not booted with."""
        parts = [part for part in PARTS if self.running_parts.get(part) != self.booted_parts.get(part)]
        if self.nvidia and self.running_nvidia and self.nvidia != self.running_nvidia:
            parts.append(f"NVIDIA driver: {self.nvidia} -> {self.running_nvidia}")
        return tuple(parts)

    def stands_on(self, closure: Closure) -> bool:
        """Whether the host runs, keeps and boots this closure, and nothing is open: there is nothing to do."""
        default = self.profile if self.boot_default is None else self.boot_default
        return self.runs(closure) and self.profile == closure == default and self.transaction is None

    def runs(self, closure: Closure) -> bool:
        """Whether the closure, or a specialisation of it, is what runs."""
        return self.running == closure or (self.profile == closure and self.running in self.specialisations)


def host_facts(lines: Lines) -> HostFacts:
    """The answer to `facts`."""
    boot_free = one(lines, "boot_free").strip()
    return HostFacts(
        machine=one(lines, "machine"),
        nix=one(lines, "nix").rpartition(" ")[2],
        store_writable=one(lines, "store_writable") == "yes",
        running=Closure(one(lines, "running")),
        profile=Closure(one(lines, "profile")),
        generation=one(lines, "generation").removeprefix("system-").removesuffix("-link"),
        booted=one(lines, "booted"),
        boot_default=_closure(lines, "boot_default"),
        running_parts={part: one(lines, f"running_{part}") for part in PARTS},
        booted_parts={part: one(lines, f"booted_{part}") for part in PARTS},
        inhibitors=inhibitors(one(lines, "inhibitors")),
        specialisations=tuple(Closure(path) for path in lines.get("specialisation", ())),
        nix_free=_number(one(lines, "nix_free")),
        boot_free=_number(boot_free) if boot_free else None,
        failed_units=tuple(lines.get("failed_unit", ())),
        upgrade_unit=one(lines, "upgrade"),
        init_interface=one(lines, "init_interface"),
        nvidia=one(lines, "nvidia"),
        running_nvidia=nvidia_version(lines.get("running_nvidia", ())),
        has_zstd=one(lines, "has_zstd") == "yes",
        boots_once=one(lines, "boots_once") == "yes",
        boots_not_once=one(lines, "boots_not_once"),
        lock_holder=one(lines, "lock_holder"),
        live=_closure(lines, "live"),
        previous=_closure(lines, "previous"),
        staged=_closure(lines, "staged"),
        quarantined=tuple(Closure(path) for path in lines.get("quarantined", ())),
        doubtful=tuple(RunId(run) for run in lines.get("doubtful", ())),
        transaction=open_transaction(lines),
        last=_last(lines),
    )


def _closure(lines: Lines, key: str) -> Closure | None:
    path = one(lines, key)
    return Closure(path) if path else None


def open_transaction(lines: Lines) -> OpenTransaction | None:
    """The transaction that the answer tells of, if one is open."""
    if not one(lines, "open_run"):
        return None
    return OpenTransaction(
        run=RunId(one(lines, "open_run")),
        state=one(lines, "open_state"),
        who=one(lines, "open_who"),
        origin=one(lines, "open_from"),
        since=_number(one(lines, "open_since")),
        closes_in=_number(one(lines, "open_closes_in")),
        new=Closure(one(lines, "open_new")),
        old=Closure(one(lines, "open_old")),
        by_reboot=one(lines, "open_goal") == "boot",
    )


def _last(lines: Lines) -> LastTransaction | None:
    if not one(lines, "last_run"):
        return None
    return LastTransaction(
        run=RunId(one(lines, "last_run")),
        state=one(lines, "last_state"),
        new=Closure(one(lines, "last_new")),
        old=Closure(one(lines, "last_old")),
        by_reboot=one(lines, "last_goal") == "boot",
        reason=one(lines, "last_reason"),
    )


OPEN_STATES = ("arming", "rebooting", "switching", "switched", "committing", "reverting")


@dataclass(frozen=True, kw_only=True)
class View:
    """A transaction as the host showed it just now."""

    state: str
    """design: arming, rebooting, switching, switched, committing, reverting; committed, tested, reverted, stuck,
    superseded; unknown."""
    running: Closure
    status: int | None = None
    """Exit status of switch-to-configuration, once it has ended."""
    blame: str = ""
    """`found` when the new system was found bad, `silent` when it was not proven."""
    reason: str = ""
    boot_entry: str = ""
    """The closure that the boot default names, `unverified` where that cannot be read."""
    rebooted: bool = False
    since: int = 0
    """When the transaction began: seconds since 1970, by the host's clock."""
    closes_in: int = 0
    """Seconds until the host goes back by itself, while it is switching or switched."""
    lines: tuple[str, ...] = ()
    """What the switch wrote since the last look."""
    cursor: str = ""
    bad: tuple[str, ...] = ()
    """Counted units that will not come back, each with what happened."""
    unsettled: tuple[str, ...] = ()
    """Counted units that may yet come up."""
    accepted: bool = False
    """Whether the word that was left will be read."""

    @property
    def is_open(self) -> bool:
        """Whether the keeper is still at work."""
        return self.state in OPEN_STATES


def view(lines: Lines) -> View:
    """The answer to `show`, `watch`, `look` and `word`."""
    status = one(lines, "status")
    return View(
        state=one(lines, "state") or "unknown",
        running=Closure(one(lines, "running")),
        status=int(status) if re.fullmatch(r"[0-9]{1,3}", status) else None,
        blame=one(lines, "blame"),
        reason=one(lines, "reason"),
        boot_entry=one(lines, "boot_entry"),
        rebooted="rebooted" in lines,
        since=_number(one(lines, "since")),
        closes_in=_number(one(lines, "closes_in")),
        lines=tuple(lines.get("line", ())),
        cursor=one(lines, "cursor"),
        bad=tuple(lines.get("bad", ())),
        unsettled=tuple(lines.get("unsettled", ())),
        accepted=one(lines, "accepted") == "yes",
    )


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One generation of the system profile."""

    number: int
    created: int
    """Seconds since 1970."""
    closure: Closure
    current: bool = False
    running: bool = False
    previous: bool = False
    """Whether `fleet rollback` would go there."""


def generations(lines: Lines) -> tuple[Generation, ...]:
    """The answer to `generations`, oldest first."""
    found = []
    for line in lines.get("generation", ()):
        number, _, rest = line.partition(" ")
        created, _, closure = rest.partition(" ")
        found.append(
            Generation(
                number=_number(number),
                created=_number(created),
                closure=Closure(closure),
                current=one(lines, "current") == f"system-{number}-link",
                running=one(lines, "running") == closure,
                previous=one(lines, "previous") == closure,
            )
        )
    return tuple(sorted(found, key=lambda generation: generation.number))
