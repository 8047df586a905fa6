"""Ask the policy of a fleet whether a change may be made, and gather what speaks for it. Where is none, all may."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import ConfigError, PolicyError
from fleet.events import PolicyApplied
from fleet.inventory import BuildOn
from fleet.ledger import Kind
from fleet.library.authority import authority_of
from fleet.library.entering import NAMES, enter
from fleet.library.plans import is_made_here, note_made_here
from fleet.state.threads import in_state
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from fleet.library.authority import Authority
    from fleet.library.tools import Tools
    from fleet.model import HostName
    from fleet.plans import Plan
    from fleet.policy import Actor, Change, Evidence, Policy, Verdict
    from fleet.policy.schema import Protected
    from fleet.signing import Signature

REMEDIES = {
    "deploy": "fleet plan --sign -o FILE; somebody else says fleet approve FILE; then fleet apply FILE",
    "push": "fleet plan --sign -o FILE; somebody else says fleet approve FILE; then fleet apply FILE",
}
"""What helps where something has to be asked for."""


@dataclass(frozen=True, kw_only=True)
class Plea:
    """What whoever applies a plan brings forward for it."""

    signatures: tuple[Signature, ...] = ()
    break_glass: str = ""
    """Why the rules are to be broken, in the words of whoever may break them. Empty if they are not."""


class Judge:
    """Says what the policy of one fleet says."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    @property
    def protected(self) -> Protected | None:
        """The branches that the policy calls protected, and where they are; None if it names none."""
        authority = authority_of(self._tools.inventory)
        return authority.policy.protected if authority is not None and authority.policy is not None else None

    async def judge_plan(
        self, plan: Plan, hosts: Sequence[HostName], plea: Plea, *, is_own: bool, has_begun: bool = False
    ) -> Verdict | None:
        """Return what the policy says about applying the plan to these hosts; None if there is no policy.

        `is_own` says that this process has made the plan; it need not show then what it was made from, and neither need
        whoever goes on with it on this machine. Raise `PolicyError` for a signature that is not good.
        """
        authority = await asyncio.to_thread(authority_of, self._tools.inventory)
        if authority is None:
            return None
        from fleet.library.signatures import verified

        signed = await verified(plan, plea.signatures, authority.principals)
        is_own = await self._is_made_here(plan, is_own=is_own)
        author = self._author(plan, authority, is_known=is_own or bool(signed.author))
        change = self._change(plan, hosts, author, has_begun=has_begun)
        verdict = self._judged(authority, change, _evidence(signed.approvals, signed.ignored), plea.break_glass)
        if not verdict.refused or authority.policy is None or authority.policy.protected is None:
            return verdict
        evidence = await self._merged(plan, hosts, authority.policy, is_own=is_own)
        evidence = dataclasses.replace(evidence, approvals=signed.approvals, ignored=signed.ignored)
        return self._judged(authority, change, evidence, plea.break_glass)

    async def judge_act(self, verb: str, hosts: Sequence[HostName], plea: Plea) -> Verdict | None:
        """Return what the policy says about an act that has no plan, such as a reboot; None if there is no policy."""
        authority = await asyncio.to_thread(authority_of, self._tools.inventory)
        if authority is None:
            return None
        from fleet.policy import Change
        from fleet.policy.schema import Verb

        change = Change(
            verb=Verb(verb), actors=(self._tools.actor,), hosts=dict.fromkeys(hosts, ()),
            reboots=frozenset(hosts if verb == "reboot" else ()), intent=plea.break_glass, at=time.time(),
        )  # fmt: skip
        lacking = f"{verb} has no plan that anybody could approve"
        return self._judged(authority, change, _evidence((), (lacking,)), plea.break_glass)

    async def require_plan(
        self, plan: Plan, hosts: Sequence[HostName], plea: Plea, *, is_own: bool, has_begun: bool = False
    ) -> PolicyApplied | None:
        """Return what there is to tell of the policy, or raise `PolicyError` if it does not allow the plan."""
        verdict = await self.judge_plan(plan, hosts, plea, is_own=is_own, has_begun=has_begun)
        return await self._require(verdict, plan.verb.value, plea, begins=True)

    async def allows_plan(self, plan: Plan, hosts: Sequence[HostName], plea: Plea, *, is_own: bool) -> None:
        """Raise `PolicyError` where `require_plan` would now. Nothing is written down."""
        verdict = await self.judge_plan(plan, hosts, plea, is_own=is_own)
        await self._require(verdict, plan.verb.value, plea, begins=False)

    async def require_act(
        self, verb: str, hosts: Sequence[HostName], plea: Plea, *, begins: bool = True
    ) -> PolicyApplied | None:
        """Do the same for an act that has no plan. Nothing is written down unless it `begins`."""
        return await self._require(await self.judge_act(verb, hosts, plea), verb, plea, begins=begins)

    async def _require(self, verdict: Verdict | None, verb: str, plea: Plea, *, begins: bool) -> PolicyApplied | None:
        if verdict is None:
            if plea.break_glass:
                raise ConfigError(
                    "--break-glass: there is no policy.toml whose rules it could break", hint="leave it out"
                )
            return None
        if verdict.refused:
            raise refusal(verdict, verb)
        if not verdict.demands:
            return None
        applied = PolicyApplied(
            decisions={host: decision.value for host, decision in verdict.decisions.items()},
            rules=tuple(dict.fromkeys(demand.rule for demand in verdict.demands)),
            satisfied=verdict.satisfied if "ask" in verdict.decisions.values() and not verdict.broken_by else "",
            broken_by=verdict.broken_by,
            reason=plea.break_glass if verdict.broken_by else "",
        )
        if applied.broken_by and begins:
            hosts = sorted(applied.decisions)[:NAMES]
            rules, why = ", ".join(applied.rules), applied.reason
            # It waits for no database. Where it cannot be written at all, the run and the hosts tell too.
            await enter(self._tools, Kind.BREAK_GLASS, waits=False, verb=verb, hosts=hosts, rule=rules, why=why)
        return applied

    def _judged(self, authority: Authority, change: Change, evidence: Evidence, break_glass: str) -> Verdict:
        """Return the verdict of the rules, and who breaks them if somebody does.

        Raise `PolicyError` if somebody may not who wants to.
        """
        from fleet.policy import demands, judged
        from fleet.policy.rules import strangers
        from fleet.policy.schema import ApprovalTable

        policy, fleet = authority.policy, self._tools.inventory
        found = strangers(change, authority.principals.path) if authority.principals is not None else ()
        found = (*found, *(demands(policy, fleet, change) if policy is not None else ()))
        table = policy.approval if policy is not None else ApprovalTable()
        verdict = judged(tuple(change.hosts), found, table, evidence)
        if break_glass and verdict.refused:
            self._require_breaker(table.break_glass, authority)
            return dataclasses.replace(verdict, broken_by=self._tools.actor.name)
        return verdict

    def _require_breaker(self, allowed: Collection[str], authority: Authority) -> None:
        """Raise `PolicyError` if whoever acts may not break rules: by the policy, and as a person that it names."""
        from fleet.policy import PrincipalKind

        actor = self._tools.actor
        if actor.name not in allowed or actor.kind is not PrincipalKind.PERSON:
            who = authority.policy.path if authority.policy is not None else "there is no policy.toml that"
            hint = f"break_glass of [approval] has {listed(sorted(allowed)) or 'nobody'}"
            raise PolicyError(f"--break-glass: {actor.name} is not one whom {who} lets break its rules", hint=hint)

    def _author(self, plan: Plan, authority: Authority, *, is_known: bool) -> Actor:
        """Return who has made the plan. Who has not signed it may be anybody: they count as an agent."""
        from fleet.policy import Actor, PrincipalKind

        if plan.by == self._tools.actor.name and is_known:
            return self._tools.actor
        if authority.principals is None:
            return Actor(plan.by, PrincipalKind.PERSON if is_known else PrincipalKind.AGENT)
        kind = authority.principals.kind_of(plan.by)
        return Actor(plan.by, kind if is_known or kind is None else PrincipalKind.AGENT)

    def _change(self, plan: Plan, hosts: Sequence[HostName], author: Actor, *, has_begun: bool) -> Change:
        from fleet.policy import Change
        from fleet.policy.rules import UNKNOWN
        from fleet.policy.schema import Verb

        parts = {name: plan.parts[name] for name in hosts}
        unknown = {name for name, part in parts.items() if part.build_on is BuildOn.TARGET and part.derivation}
        return Change(
            verb=Verb(plan.verb.value),
            actors=tuple(dict.fromkeys((self._tools.actor, author))),
            hosts={name: (*part.reboot, *((UNKNOWN,) if name in unknown else ())) for name, part in parts.items()},
            reboots=frozenset(name for name, part in parts.items() if part.by_reboot),
            intent=plan.intent,
            has_begun=has_begun,
            at=time.time(),
        )

    async def _is_made_here(self, plan: Plan, *, is_own: bool) -> bool:
        """Return whether this process has made the plan, or another one on this machine has, which has noted it."""
        if is_own:
            await in_state(note_made_here, plan, self._tools.state)
            return True
        return await in_state(is_made_here, plan, self._tools.state)

    async def _merged(self, plan: Plan, hosts: Sequence[HostName], policy: Policy, *, is_own: bool) -> Evidence:
        """Return whether what the plan was made from is merged, as the remote says that the policy names.

        What a plan says of its source counts only where this process has seen it, or finds the same systems there.
        """
        from fleet.library.approving import require_same_systems
        from fleet.source.remote import Copies

        assert policy.protected is not None
        copies = Copies(self._tools.here, policy.protected.remote)
        branches = set()
        for source in dict.fromkeys(plan.source_of(name) for name in hosts):
            if not source.is_clean:
                made = "it was made from files that are in no commit" if source.reference else "it names no source"
                return _evidence(not_merged=made)
            merged = await copies.merged(source.revision, policy.protected.branches)
            if not merged.branch:
                return _evidence(not_merged=merged.why_not)
            branches.add(merged.branch)
        if not is_own:
            try:
                await require_same_systems(self._tools, plan, hosts, remote=policy.protected.remote)
            except (ConfigError, PolicyError) as error:
                return _evidence(not_merged=error.message)
        return _evidence(merged=f"{', '.join(sorted(branches))} of {policy.protected.remote}")


def _evidence(
    approvals: Sequence[object] = (), ignored: Sequence[str] = (), *, merged: str = "", not_merged: str = ""
) -> Evidence:
    from fleet.policy import Approval, Evidence

    counted = tuple(one for one in approvals if isinstance(one, Approval))
    return Evidence(approvals=counted, ignored=tuple(ignored), merged=merged, not_merged=not_merged)


def refusal(verdict: Verdict, verb: str) -> PolicyError:
    """Return the error that says which rules forbid what, and what helps."""
    from fleet.policy import Decision

    rows: dict[tuple[str, str, str], list[HostName]] = {}
    refused = frozenset(verdict.refused)
    for demand in verdict.demands:
        if demand.host in refused:
            rows.setdefault((demand.says.value, demand.rule, demand.why), []).append(demand.host)
    said = [f"{listed(hosts, most=6)}: {says}, by {rule}: {why}" for (says, rule, why), hosts in rows.items()]
    is_denied = Decision.DENY in (verdict.decisions[host] for host in refused)
    word = "denies this" if is_denied else f"asks for more: {verdict.lacking}"
    hint = "" if is_denied else REMEDIES.get(verb, "")
    hint = hint or "leave these hosts out, or ask somebody whom break_glass of policy.toml names"
    return PolicyError(f"{listed(verdict.refused, most=6)}: policy.toml {word}", said=said, hint=hint)
