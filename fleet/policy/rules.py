"""What the rules of a policy demand of a change. Pure functions."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.inventory.matching import matching, named_parts
from fleet.inventory.profiles import computer
from fleet.inventory.windows import opening
from fleet.policy.principals import Actor, PrincipalKind
from fleet.policy.schema import Must, Reason, Verb
from fleet.text import local_time

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from fleet.inventory import Inventory
    from fleet.model import HostName
    from fleet.policy.schema import AgentRule, Policy, RebootRule, Rule, WindowRule

KERNEL = ("kernel", "initrd", "kernel-modules", "kernel-params")
"""The parts of a system that make up its kernel, as plans call them."""
TOLD = (Verb.DEPLOY, Verb.ROLLBACK)
"""What hosts remember together with the intent."""
DRIVER = "NVIDIA driver"
"""How what a plan says about another driver begins."""
UNKNOWN = "unknown"
"""Stands among the parts that change where nobody knows which do: the host builds its system itself."""


class Decision(enum.StrEnum):
    """What a policy says. The first beats the second, and that the third."""

    DENY = "deny"
    ASK = "ask"
    ALLOW = "allow"


@dataclass(frozen=True)
class Demand:
    """What one rule says about one host. Rules that say nothing about it have none."""

    host: HostName
    rule: str
    """The name of the rule, or its place in policy.toml."""
    says: Decision
    why: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """What somebody is about to do."""

    verb: Verb
    actors: tuple[Actor, ...]
    """Whoever does it, and whoever has planned it."""
    hosts: Mapping[HostName, tuple[str, ...]]
    """The hosts that something happens to, each with what only a reboot makes live, as its part of a plan says."""
    reboots: Collection[HostName] = field(default_factory=frozenset)
    """Those of the hosts that reboot."""
    intent: str = ""
    has_begun: bool = False
    """Whether it goes on with what has begun: a window that has closed meanwhile stops nothing."""
    at: float
    """Seconds since 1970."""


def strangers(change: Change, principals: Path) -> tuple[Demand, ...]:
    """Return that nobody may change hosts whom principals.toml does not know."""
    found: list[Demand] = []
    for actor in change.actors:
        if actor.kind is None:
            why = f"{actor.name} is nobody in {principals}: add [principals.{actor.name}], or users to who they are"
            found += (Demand(host, principals.name, Decision.DENY, why) for host in change.hosts)
    return tuple(found)


def demands(policy: Policy, fleet: Inventory, change: Change) -> tuple[Demand, ...]:
    """Return what the policy demands of the change, rule by rule."""
    named = named_parts(fleet.hosts.values())
    computers = {name: computer(host) for name, host in fleet.hosts.items()}
    found: list[Demand] = []

    def of(rule: Rule) -> Iterator[HostName]:
        if change.verb in rule.verbs:
            names = matching(named, [rule.hosts])
            # What is so of a computer is so of all that is on it.
            yield from (host for host in change.hosts if host in names or computers.get(host) in names)

    for agents in policy.agents:
        found += (demand for host in of(agents) for demand in _of_agents(policy, agents, change, host))
    for reboots in policy.reboots:
        found += (demand for host in of(reboots) for demand in _of_reboots(policy, reboots, change, host))
    for window in policy.windows:
        found += (demand for host in of(window) for demand in _of_window(policy, window, change, host))
    return tuple(found)


def _of_agents(policy: Policy, rule: AgentRule, change: Change, host: HostName) -> Iterator[Demand]:
    agents = [actor.name for actor in change.actors if actor.kind is PrincipalKind.AGENT]
    if not agents:
        return
    name, verb = policy.name_of(rule), change.verb
    yield Demand(host, name, _says(rule.must), f"{agents[0]} is an agent, and {verb} is what agents {_may(rule.must)}")
    if rule.intent and verb in TOLD and not change.intent.strip():
        yield Demand(host, name, Decision.DENY, f"{agents[0]} is an agent, and has not said why: --intent TEXT")


def _of_reboots(policy: Policy, rule: RebootRule, change: Change, host: HostName) -> Iterator[Demand]:
    parts = change.hosts[host]
    kernel = [part for part in parts if part in KERNEL]
    reasons = {
        Reason.REBOOT: "it reboots" if host in change.reboots else "",
        Reason.KERNEL: f"its kernel changes: {', '.join(kernel)}" if kernel else "",
        Reason.DRIVER: next((f"its driver changes: {part}" for part in parts if part.startswith(DRIVER)), ""),
    }
    if UNKNOWN in parts:
        reasons |= dict.fromkeys(
            (Reason.KERNEL, Reason.DRIVER),
            "it builds its system itself, so that nobody knows yet whether its kernel or driver changes",
        )
    why = [reasons[reason] for reason in rule.of if reasons[reason]]
    if why:
        yield Demand(host, policy.name_of(rule), _says(rule.must), "; ".join(dict.fromkeys(why)))


def _of_window(policy: Policy, rule: WindowRule, change: Change, host: HostName) -> Iterator[Demand]:
    if change.has_begun or (opens := opening(rule.window, change.at)) is None:
        return
    why = f"it is outside of {' and '.join(rule.window)}, which opens {local_time(opens)}"
    yield Demand(host, policy.name_of(rule), _says(rule.must), why)


def _says(must: Must) -> Decision:
    return Decision(must.value)


def _may(must: Must) -> str:
    return "have to ask for there" if must is Must.ASK else "may not do there"
