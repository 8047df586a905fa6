"""The options of a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from fleet.errors import ConfigError
from fleet.model import Goal, Reboot, Verb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.model import Closure, Derivation, HostName
    from fleet.plans import Plan

A_DAY = 86_400


class PlanOptions(TypedDict, total=False):
    """The keyword arguments of `Fleet.plan`. `Options` says what each means, and has the defaults."""

    verb: Verb
    goal: Goal
    closure: Closure | None
    revision: str
    keep_going: bool
    eval_cache: bool
    all_or_nothing: bool
    retry_quarantined: bool
    reboot: Reboot
    accept_boot_risk: bool
    force: bool
    copy_with: str
    watch: float
    intent: str
    expires_in: int
    undo_on_failure: bool | None
    ignore_windows: bool
    amends: Plan | None
    wait: float


@dataclass(frozen=True)
class Late:
    """A system that was evaluated earlier."""

    closure: Closure
    derivation: Derivation | None
    """What the closure is built from; None if it was given, and is in the local store."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a plan, checked against each other."""

    verb: Verb = Verb.DEPLOY
    goal: Goal = Goal.SWITCH
    closure: Closure | None = None
    """A closure that was built elsewhere, for all selected hosts. Nothing is evaluated then."""
    revision: str = ""
    """A branch, a tag or a commit of the flake's repository. Empty: what its work tree has is evaluated."""
    back_to: str | None = None
    """For `rollback`: the number of a generation, or a closure. None stands for the host's `previous`."""
    keep_going: bool = False
    """Whether to leave out hosts that do not evaluate or build, and go on with the others."""
    eval_cache: bool = True
    """Whether to reuse earlier evaluations of a source that has not changed since."""
    all_or_nothing: bool = False
    """Whether to touch no host at all if one of them cannot take part."""
    retry_quarantined: bool = False
    """Whether to try a closure again on a host where it was found bad."""
    reboot: Reboot = Reboot.NEVER
    accept_boot_risk: bool = False
    """Whether to reboot a host that could not come back by itself from a system that does not boot."""
    force: bool = False
    """Whether to reboot although somebody is logged in, a computing job runs, or an inhibitor lock is held."""
    copy_with: str = "serve"
    """`serve` copies with fleet's own client of the serve protocol, `nix` with `nix copy`."""
    watch: float = 0.0
    """The least time, in seconds, for which the new system is watched before it is kept."""
    strict: bool = False
    """For `rollback`: whether a failing check stops it."""
    intent: str = ""
    """Why, in the words of whoever asks. Hosts keep it in their history."""
    expires_in: int = A_DAY
    """Seconds from now during which the plan can be applied."""

    undo_on_failure: bool | None = None
    """Whether hosts that the run has changed go back to where they were when it fails. None: as fleet.toml says."""
    wait: float = 0.0
    """Seconds that each host waits for its turn, where others are at work: a day at most. What they leave there is
    planned for anew. 0.0: such a host is refused."""
    ignore_windows: bool = False
    """Whether hosts may begin outside of their windows. A rollback always may."""
    is_undo: bool = False
    """For `rollback`: whether it takes back what a failed run has changed. Nothing stops that halfway."""
    late: Mapping[HostName, Late] = field(default_factory=dict)
    """What hosts should get that were away when it was evaluated. If there is any, nothing is evaluated now."""
    amends: Plan | None = None
    """The plan whose systems hosts should get that had changed by the time. Nothing is evaluated now."""

    def __post_init__(self) -> None:
        """Take over what an amended plan brings. Raise `ConfigError` for options that contradict each other."""
        if self.amends is not None:
            parts = self.amends.parts.items()
            late = {name: Late(part.closure, part.derivation) for name, part in parts}
            object.__setattr__(self, "late", late)  # it is frozen only from now on
        if self.goal is not Goal.SWITCH and self.reboot is not Reboot.NEVER:
            raise ConfigError(f"--goal {self.goal} never reboots: leave out --reboot")
        if self.revision and (self.closure is not None or self.amends is not None):
            raise ConfigError("--revision: nothing is evaluated for a closure that there is already")
        if self.wait and not (self.verb in (Verb.PLAN, Verb.DEPLOY) and self.goal.switches):
            raise ConfigError("--wait: only a deployment that switches waits for its turn")
        if not 0 <= self.wait <= A_DAY:
            raise ConfigError("--wait: a host waits for a day at most")
        if self.expires_in <= 0:
            raise ConfigError("--expires: a plan that has expired when it is made is of no use")

    @property
    def switches(self) -> bool:
        """Whether the plan changes what hosts run."""
        return self.verb is not Verb.PUSH and self.goal.switches

    @property
    def plans_for_absent(self) -> bool:
        """Whether hosts that are away get a part if they can have no other one later, since it has to be signed."""
        return self.verb is Verb.PLAN and self.goal is Goal.SWITCH and not self.all_or_nothing

    @property
    def windows_count(self) -> bool:
        """Whether a host begins in its windows only. Going back never waits for them."""
        return self.switches and self.verb is not Verb.ROLLBACK and not self.ignore_windows

    @property
    def checks_decide(self) -> bool:
        """Whether failing checks revert the host.

        In a rollback they do not: what they miss may be the reason for it.
        """
        return self.verb is not Verb.ROLLBACK or self.strict
