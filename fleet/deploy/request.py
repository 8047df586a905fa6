"""What was asked for, and what every part of a run shares."""

from __future__ import annotations

import functools
import getpass
import secrets
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.machine.pipe import LocalStreams
from fleet.model import Goal, Reboot, RunId
from fleet.source import evaluations
from fleet.steps.thin import Thin
from fleet.store.supply import Supply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet.events import Emit
    from fleet.inventory import Inventory
    from fleet.machine import Machine
    from fleet.machine.login import Logins
    from fleet.model import Closure, HostName


@dataclass(frozen=True, kw_only=True)
class Request:
    """One command of a person, as far as the run cares."""

    verb: str
    """`deploy`, `push`, `rollback` or `plan`."""
    goal: Goal = Goal.SWITCH
    closure: Closure | None = None
    """A closure built elsewhere, for all selected hosts: nothing is evaluated."""
    back_to: str | None = None
    """With `rollback`: a generation number or a closure; None is the host's `previous`."""
    keep_going: bool = False
    eval_cache: bool = False
    """Whether what a source evaluated to counts for as long as it does not change; the command line asks for it."""
    all_or_nothing: bool = False
    retry_quarantined: bool = False
    reboot: Reboot = Reboot.NEVER
    accept_boot_risk: bool = False
    """Whether a host is rebooted that could not come back from a system that does not boot."""
    force: bool = False
    """Whether a reboot minds nobody: people who are logged in, computing jobs, inhibitor locks."""
    copy_with: str = "serve"
    """`serve` is our own client of the serve protocol; `nix` is `nix copy`."""
    watch: float = 0.0
    """Seconds for which the new system is watched before it is kept, at the least."""
    strict: bool = False
    """With `rollback`: whether failing declared checks stop it."""

    @property
    def switches(self) -> bool:
        """Whether what a host runs is to change, or, of a plan, would."""
        return self.verb != "push" and self.goal.switches

    @property
    def proves_checks(self) -> bool:
        """Whether declared checks decide. On the way back they do not: what they miss may be why people go back."""
        return self.verb != "rollback" or self.strict


@dataclass
class Interrupt:
    """Whether a person has asked the run to begin nothing new."""

    asked: bool = False


@dataclass(frozen=True, kw_only=True)
class Run:
    """What every part of one run shares."""

    id: RunId
    request: Request
    inventory: Inventory
    logins: Logins
    here: Machine
    emit: Emit
    folder: Path
    """The run's own folder, which exists."""
    supply: Supply = field(default_factory=lambda: Supply(LocalStreams()))
    """What is pushed: read once for all hosts."""
    speed_of: Callable[[HostName], float | None] = lambda _: None
    """Bytes a second of the last push to a host, if that was measured."""
    interrupt: Interrupt = field(default_factory=Interrupt)
    who: str = field(default_factory=lambda: _user())
    origin: str = field(default_factory=socket.gethostname)

    @functools.cached_property
    def thin(self) -> Thin:
        """The same for hosts at thin links."""
        return Thin(self.supply)

    @property
    def evaluations(self) -> evaluations.Evaluations | None:
        """What sources evaluated to before, where that counts."""
        return evaluations.users_own() if self.request.eval_cache else None


def new_run_id() -> RunId:
    """A run id that sorts by time and that nobody else has."""
    return RunId(f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(3)}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, in a container say
        return "unknown"
