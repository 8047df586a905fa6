"""Turn the answer to `facts` into a value: what a host is and runs, and which transactions it has. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.host.answers import State, as_written, names, one
from fleet.host.obstacles import PARTS, inhibitors, nvidia_version
from fleet.host.tickets import Ticket, tickets, who
from fleet.model import Closure, RunId, Serial
from fleet.plans.part import NO_SERIAL
from fleet.plans.text import NONE
from fleet.text import plain_text, whole_number

if TYPE_CHECKING:
    from fleet.host.answers import Lines

MOST_OF_AGENTS = 500
"""Packages of agents of a host that are taken in."""


@dataclass(frozen=True, kw_only=True)
class OpenTransaction:
    """A transaction that is open on a host: whose it is, and when it closes by itself."""

    run: RunId
    state: State
    who: str
    origin: str
    since: int
    """Seconds since 1970, by the host's clock."""
    closes_in: int
    """Seconds until it closes by itself; zero or less if the keeper is already acting."""
    new: Closure
    old: Closure
    by_reboot: bool = False
    """Whether the new system is booted on trial."""
    intent: str = ""
    """What for, in the words of whoever asked."""

    @property
    def whose(self) -> str:
        """Who asked for it, and from where: `bob from train`."""
        return who(self.who, self.origin)

    def __str__(self) -> str:
        return f"run {self.run} of {self.whose}, {self.state}"


@dataclass(frozen=True, kw_only=True)
class LastTransaction:
    """The newest transaction that ended on a host."""

    run: RunId
    state: State
    new: Closure
    old: Closure
    by_reboot: bool
    reason: str
    blame: str = ""
    """`found` if the new system was found bad, `silent` if it was not proven. Empty if neither was said."""
    boot_entry: str = ""
    """The closure that the boot default names; `unverified` if that could not be read."""
    part: str = ""
    """The digest of the part of a plan that asked for it."""
    serial: Serial = NO_SERIAL
    by: str = ""
    origin: str = ""
    intent: str = ""
    """Who asked for it, on which machine, and what for."""
    ended: int = 0
    """Seconds since 1970, by the host's clock. 0 if that is not known."""


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """What a host is and runs, as one contact found it."""

    machine: str
    """`uname -m`"""
    nix: str
    """Where its Nix is; empty where root finds none."""
    store_writable: bool
    running: Closure
    profile: Closure
    generation: str
    booted: str
    boot_default: Closure | None
    """The closure that the boot default names; None if that cannot be read."""
    boot_doubt: str = ""
    """Why it cannot be read. Empty if it can."""
    boot_unmounted: tuple[str, ...] = ()
    """Folders for a boot partition that is not mounted, where that is why it cannot be read."""
    running_parts: dict[str, str] = field(default_factory=dict)
    booted_parts: dict[str, str] = field(default_factory=dict)
    inhibitors: dict[str, str] = field(default_factory=dict)
    specialisations: tuple[Closure, ...] = ()
    """The specialisations of the profile."""
    nix_free: int
    """Free bytes on /nix."""
    boot_free: int | None
    """Free bytes on /boot; None if there is no /boot."""
    failed_units: tuple[str, ...] = ()
    upgrade_unit: str = ""
    """The unit of an automatic upgrade that is active. Empty if none is."""
    init_interface: str = ""
    """The version of the running system's init interface: a live switch to another version is refused."""
    nvidia: str = ""
    """The version of the NVIDIA driver that the kernel has loaded. Empty if it has none."""
    running_nvidia: str = ""
    """The version of the running system's own NVIDIA driver. Empty if none is loaded."""
    gpu_jobs: tuple[str, ...] = ()
    """The processes that compute on a GPU, each as `PID, NAME`."""
    throttled: str = ""
    """What the firmware of a Raspberry Pi says of its power and temperature, in base 16. Empty elsewhere."""
    undervoltage: bool = False
    """Whether its voltage is too low now, as a sensor says."""
    read_only: tuple[str, ...] = ()
    """Of the places that every switch writes to, those that cannot be written."""
    boot_read_only: tuple[str, ...] = ()
    """Files of the boot loader that cannot be written."""
    has_zstd: bool = False
    """Whether the host can read what is compressed for a slow link."""
    boots_once: bool = False
    """Whether the boot loader can boot an entry for one boot, and the default after it."""
    boots_not_once: str = ""
    """Why it cannot. Empty if it can."""
    agents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What the agents of services.fleet.agents have, by their names: each package with its version, `NAME VERSION`."""
    lock_holder: str = ""
    """The process that holds switch-to-configuration's lock, as `PID NAME`. Empty if none does."""
    serial: Serial = NO_SERIAL
    """The number of the newest transaction."""
    gate: str = ""
    """The digest of the gate that the running system has. Empty if it has none."""
    gate_previous: str = ""
    """The same of the system before it. Empty if the running system has none."""
    link: str = ""
    """What the system profile links to, and since when."""
    live: Closure | None = None
    previous: Closure | None = None
    staged: Closure | None = None
    """The closure that was pushed last and not switched to since."""
    quarantined: tuple[Closure, ...] = ()
    doubtful: tuple[RunId, ...] = ()
    """Runs during whose push the host went down. What they brought may be damaged, though Nix there calls it valid."""
    missing_secrets: tuple[str, ...] = ()
    """Secrets in memory that it should have, and that a reboot has taken."""
    transaction: OpenTransaction | None = None
    waiting: tuple[Ticket, ...] = ()
    """Who waits for a turn, the oldest first."""
    last: LastTransaction | None = None
    answer: Lines = field(default_factory=dict, compare=False, repr=False)
    """The answer that says all of this, of a host that may be planned for while it is away. Empty for others."""

    @property
    def reboot_pending(self) -> tuple[str, ...]:
        """The parts of the running system that the kernel was not booted with."""
        parts = [part for part in PARTS if self.running_parts.get(part) != self.booted_parts.get(part)]
        if self.nvidia and self.running_nvidia and self.nvidia != self.running_nvidia:
            parts.append(f"NVIDIA driver: {self.nvidia} -> {self.running_nvidia}")
        return tuple(parts)

    @property
    def since(self) -> int:
        """When the running system became the system profile: seconds since 1970, by the host's clock.

        0 if it is not the system profile, or that is not known.
        """
        moment = self.link.partition("@")[2].partition(".")[0]
        return whole_number(moment) if self.running == self.profile else 0

    def stands_on(self, closure: Closure) -> bool:
        """Return whether there is nothing to do: the host runs, keeps and boots this closure, and has nothing open."""
        default = self.profile if self.boot_default is None else self.boot_default
        return self.runs(closure) and self.profile == closure == default and self.transaction is None

    def runs(self, closure: Closure) -> bool:
        """Return whether the closure, or a specialisation of it, is what runs."""
        return self.running == closure or (self.profile == closure and self.running in self.specialisations)


def host_facts(lines: Lines) -> HostFacts:
    """Return the facts in an answer to `facts`."""
    boot_free = one(lines, "boot_free").strip()
    return HostFacts(
        machine=one(lines, "machine"),
        nix=one(lines, "nix"),
        store_writable=one(lines, "store_writable") == "yes",
        running=Closure(one(lines, "running")),
        profile=Closure(one(lines, "profile")),
        generation=one(lines, "generation").removesuffix("-link").rpartition("-")[2],
        booted=one(lines, "booted"),
        boot_default=_closure_or_none(lines, "boot_default"),
        boot_doubt=one(lines, "boot_doubt"),
        boot_unmounted=tuple(lines.get("boot_unmounted", ())),
        running_parts={part: one(lines, f"running_{part}") for part in PARTS},
        booted_parts={part: one(lines, f"booted_{part}") for part in PARTS},
        inhibitors=inhibitors(one(lines, "inhibitors")),
        specialisations=tuple(Closure(path) for path in lines.get("specialisation", ())),
        nix_free=whole_number(one(lines, "nix_free")),
        boot_free=whole_number(boot_free) if boot_free else None,
        failed_units=tuple(lines.get("failed_unit", ())),
        upgrade_unit=one(lines, "upgrade"),
        init_interface=one(lines, "init_interface"),
        nvidia=one(lines, "nvidia"),
        running_nvidia=nvidia_version(lines.get("running_nvidia", ())),
        gpu_jobs=tuple(map(plain_text, lines.get("gpu_job", ()))),
        throttled=one(lines, "throttled"),
        undervoltage="undervoltage" in lines,
        read_only=tuple(map(plain_text, lines.get("read_only", ()))),
        boot_read_only=tuple(map(plain_text, lines.get("boot_read_only", ()))),
        has_zstd=one(lines, "has_zstd") == "yes",
        boots_once=one(lines, "boots_once") == "yes",
        boots_not_once=one(lines, "boots_not_once"),
        agents=_agents(lines),
        lock_holder=one(lines, "lock_holder"),
        serial=Serial(one(lines, "serial") or NO_SERIAL),
        link=one(lines, "link").removeprefix(NONE),
        gate=one(lines, "gate"),
        gate_previous=one(lines, "gate_previous"),
        live=_closure_or_none(lines, "live"),
        previous=_closure_or_none(lines, "previous"),
        staged=_closure_or_none(lines, "staged"),
        quarantined=tuple(Closure(path) for path in lines.get("quarantined", ())),
        doubtful=tuple(RunId(run) for run in lines.get("doubtful", ())),
        missing_secrets=names(lines.get("secret_missing", ())),
        transaction=open_transaction(lines),
        waiting=tickets(lines),
        last=_last_transaction(lines),
    )


def _agents(lines: Lines) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for line in lines.get("agent", ())[:MOST_OF_AGENTS]:
        name, _, package = plain_text(line).partition(" ")
        if name:
            found[name] = (*found.get(name, ()), *([package] if package else []))
    return found


def _closure_or_none(lines: Lines, key: str) -> Closure | None:
    """Return the closure that is the last value of the key; None if there is none."""
    path = one(lines, key)
    return Closure(path) if path else None


def open_transaction(lines: Lines) -> OpenTransaction | None:
    """Return the open transaction that the answer tells of; None if none is open."""
    if not one(lines, "open_run"):
        return None
    return OpenTransaction(
        run=RunId(one(lines, "open_run")),
        state=State(one(lines, "open_state")),
        who=as_written(one(lines, "open_who")),
        origin=as_written(one(lines, "open_from")),
        since=whole_number(one(lines, "open_since")),
        closes_in=whole_number(one(lines, "open_closes_in")),
        new=Closure(one(lines, "open_new")),
        old=Closure(one(lines, "open_old")),
        by_reboot=one(lines, "open_goal") == "boot",
        intent=as_written(one(lines, "open_intent")),
    )


def _last_transaction(lines: Lines) -> LastTransaction | None:
    """Return the transaction that ended last; None if there was none."""
    if not one(lines, "last_run"):
        return None
    return LastTransaction(
        run=RunId(one(lines, "last_run")),
        state=State(one(lines, "last_state")),
        new=Closure(one(lines, "last_new")),
        old=Closure(one(lines, "last_old")),
        by_reboot=one(lines, "last_goal") == "boot",
        reason=one(lines, "last_reason"),
        blame=one(lines, "last_blame"),
        boot_entry=one(lines, "last_boot_entry"),
        part=one(lines, "last_part"),
        serial=Serial(one(lines, "last_serial") or NO_SERIAL),
        by=as_written(one(lines, "last_who")),
        origin=as_written(one(lines, "last_from")),
        intent=as_written(one(lines, "last_intent")),
        ended=whole_number(one(lines, "last_ended")),
    )
