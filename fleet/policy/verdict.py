"""Decide whether what a policy demands of a change is satisfied. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.policy.rules import Decision

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from fleet.model import HostName
    from fleet.policy.rules import Demand
    from fleet.policy.schema import ApprovalTable


@dataclass(frozen=True)
class Approval:
    """A person who has approved, by a signature that is good."""

    by: str
    is_touched: bool
    """Whether the device that signed was touched."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What speaks for a change that has to be asked for."""

    approvals: tuple[Approval, ...] = ()
    merged: str = ""
    """The branch that its source is merged to. Empty if it is not, or nobody could tell."""
    not_merged: str = ""
    """Why it does not count as merged."""
    ignored: tuple[str, ...] = ()
    """Signatures that count for nothing, each with the reason."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a policy says about a change, host by host."""

    decisions: dict[HostName, Decision]
    """What the strictest of the rules says about each host, whether or not that is satisfied."""
    demands: tuple[Demand, ...] = ()
    approvals: tuple[Approval, ...] = ()
    """Those that count."""
    required: int = 1
    satisfied: str = ""
    """What satisfies whatever has to be asked for: `approved by ann`. Empty if nothing does."""
    lacking: str = ""
    """What is missing for that."""
    broken_by: str = ""
    """Who goes ahead against the rules. Empty if nobody does."""

    @property
    def refused(self) -> tuple[HostName, ...]:
        """The hosts that nothing may happen to."""
        if self.broken_by:
            return ()
        return tuple(
            host
            for host, decision in self.decisions.items()
            if decision is Decision.DENY or (decision is Decision.ASK and not self.satisfied)
        )

    @property
    def by_host(self) -> dict[HostName, list[Demand]]:
        """What is demanded about each host."""
        found: dict[HostName, list[Demand]] = {host: [] for host in self.decisions}
        for demand in self.demands:
            found[demand.host].append(demand)
        return found


def judged(
    hosts: Sequence[HostName], demands: Sequence[Demand], approval: ApprovalTable, evidence: Evidence
) -> Verdict:
    """Return the verdict: deny beats ask, and ask beats allow, which is what no rule speaks about."""
    says: dict[HostName, set[Decision]] = {host: set() for host in hosts}
    for demand in demands:
        says[demand.host].add(demand.says)
    decisions = {host: strictest(said) for host, said in says.items()}
    counting = {one.by: one for one in evidence.approvals if one.is_touched or not approval.touch}
    approvals = tuple(counting.values())
    satisfied = ""
    if len(approvals) >= approval.required:
        satisfied = f"approved by {', '.join(counting)}"
    elif evidence.merged:
        satisfied = f"merged to {evidence.merged}"
    return Verdict(
        decisions=decisions,
        demands=tuple(demands),
        approvals=approvals,
        required=approval.required,
        satisfied=satisfied,
        lacking="" if satisfied else _lacking(approval, approvals, evidence),
    )


def strictest(says: Collection[Decision]) -> Decision:
    """Return the decision that beats the others."""
    return next((decision for decision in Decision if decision in says), Decision.ALLOW)


def _lacking(approval: ApprovalTable, approvals: Sequence[Approval], evidence: Evidence) -> str:
    people = "1 approval" if approval.required == 1 else f"{approval.required} approvals by different people"
    touched = " with a touched FIDO key" if approval.touch else ""
    counting = {one.by for one in approvals}
    untouched = dict.fromkeys(one.by for one in evidence.approvals if one.by not in counting)
    parts = [
        f"it needs {people}{touched}, and has {len(approvals)}",
        *([f"that of {', '.join(untouched)} was made without a touch"] if untouched else []),
        *([f"not merged: {evidence.not_merged}"] if evidence.not_merged else []),
        *evidence.ignored,
    ]
    return "; ".join(parts)
