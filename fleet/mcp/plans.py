"""Tell what plans would do, who has to agree to them, and what would differ."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

from fleet.diff import diff_json
from fleet.errors import ConfigError, FleetError, PolicyError
from fleet.events import FindingReported, HostPlanned
from fleet.library.governed import require_signed
from fleet.library.judging import Plea
from fleet.library.plans import unknown_hosts
from fleet.library.signatures import beside, read_signatures
from fleet.mcp import human
from fleet.mcp.answers import Document, foreign, page, rows_from
from fleet.mcp.arguments import After, Digest, HostName  # noqa: TC001 - the SDK reads these
from fleet.model import Outcome, Verb
from fleet.plans.announce import announced
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from fleet.inventory import Inventory
    from fleet.library.fleet import Fleet
    from fleet.mcp.desk import Desk
    from fleet.mcp.requests import Requests
    from fleet.model import HostName as Name
    from fleet.plans import LeftOut, Plan
    from fleet.policy import Verdict

READY, ASKS, DENIED = "ready", "needs_approval", "denied"
"""Whether the plan may be applied now: yes; when a person has agreed; no."""
MOST_LEFT_OUT = 20


class Plans:
    """Tools that tell of plans, for whoever is at the desk."""

    def __init__(self, desk: Callable[[], Desk]) -> None:
        self._desk = desk

    async def plans(self, after: After = "") -> Document:
        """The plans that this machine keeps, newest first."""
        async with await self._desk().fleet() as fleet:
            found = {plan.digest: plan for plan in await fleet.kept_plans()}
        names = rows_from(list(found), after)
        now = time.time()
        rows = (
            (
                name,
                {
                    "plan": name,
                    "made": round(found[name].made),
                    "expires": round(found[name].expires),
                    "expired": found[name].expires <= now,
                },
            )
            for name in names
        )
        return page(rows, names, key="plans")

    async def show_plan(self, plan: Digest, after: After = "") -> Document:
        """What a plan would do to each host, and whether it may be applied now or what a person has to do first."""
        desk = self._desk()
        async with await desk.fleet() as fleet:
            made = await fleet.kept_plan(plan)
            file = await asyncio.to_thread(plan_file, desk.requests(fleet), made)
            return await plan_document(fleet, made, after, file)

    async def diff_plan(self, plan: Digest, host: HostName) -> Document:
        """What would differ on one host of a plan: packages, units, files in /etc, and what needs a reboot."""
        async with await self._desk().fleet() as fleet:
            made = await fleet.kept_plan(plan)
            name = next((each for each in made.hosts if each == host), None)
            if name is None or name not in fleet.inventory.hosts:
                raise ConfigError(f"{host}: is no host of the plan", hint="show_plan lists them")
            found = await fleet.compare(made, name)
        diff = found.get(name)
        if isinstance(diff, FleetError):
            raise diff
        head = {"plan": made.digest, "name": name}
        if diff is None:
            return {**head, "same": True}
        told = diff_json({name: diff})["hosts"][0]
        parts = {key: told[key] for key in ("packages", "agents", "units", "etc", "reboot")}
        return {**head, "same": diff.is_empty, "bytes": diff.size, "foreign": foreign(parts, most=100, share=40_000)}


def plan_file(requests: Requests, plan: Plan) -> Path | None:
    """Return the file of a plan that was asked for here; None if it was made otherwise, or is not remembered."""
    for request in requests.all():
        if request.planned == plan.digest:
            return request.plan_file
    return None


def plea_for(fleet: Fleet, plan: Plan, file: Path | None) -> tuple[Plea, tuple[Path, ...]]:
    """Return the signatures that this machine has of the plan, and the files that they are in.

    Raise `ConfigError` for a file of something else.
    """
    places = [fleet.signatures_file(plan), *([beside(file)] if file is not None else [])]
    files = tuple(place for place in places if place.exists())
    found = [signature for place in files for signature in read_signatures(plan, place)]
    return Plea(signatures=tuple(dict.fromkeys(found))), files


async def plan_document(fleet: Fleet, plan: Plan, after: str, file: Path | None) -> Document:
    """Describe a plan with a page of its hosts, and whether it may be applied now."""
    events = list(announced(plan, plan.hosts))
    planned = {event.host: event for event in events if isinstance(event, HostPlanned)}
    findings: dict[str, list[Document]] = {}
    for event in events:
        if isinstance(event, FindingReported):
            told = {"severity": event.severity.value, "kind": event.kind, "message": event.message, "hint": event.hint}
            findings.setdefault(event.host or "", []).append(told)
    names = rows_from(list(plan.hosts), after)
    rows = ((name, _host(planned[name], findings.get(name, []))) for name in names)
    head = {} if after else {**_head(plan, findings.get("", [])), **_left_out(plan.left_out)}
    return {"plan": plan.digest, **await standing(fleet, plan, plan.hosts, file), **head, **page(rows, names)}


def _head(plan: Plan, findings: Sequence[Document]) -> Document:
    actions = Counter(event.action for event in announced(plan, plan.hosts) if isinstance(event, HostPlanned))
    sources = [plan.source, *(other.source for other in plan.other_sources)]
    return {
        "goal": plan.goal.value,
        "made": plan.made,
        "expires": plan.expires,
        "count": len(plan.hosts),
        "actions": dict(actions),
        "waves": len(plan.waves),
        "committed": all(source.is_clean and source.revision for source in sources),
        "foreign": foreign({
            "by": plan.by,
            "intent": plan.intent,
            "sources": [{"reference": source.reference, "revision": source.revision} for source in sources],
            "findings": findings,
        }),
    }  # fmt: skip


def _left_out(left: Sequence[LeftOut]) -> Document:
    rows = [
        {"name": one.host, "outcome": one.outcome.value, "foreign": foreign({"why": one.message}, share=1000)}
        for one in left
        if one.message
    ][:MOST_LEFT_OUT]
    return {"left_out": {"outcomes": dict(Counter(one.outcome.value for one in left)), "hosts": rows}}


def _host(event: HostPlanned, findings: Sequence[Document]) -> Document:
    return {
        "name": event.host,
        "wave": event.wave,
        "action": event.action,
        "running": event.running,
        "closure": event.closure,
        "push_bytes": event.missing_bytes - event.substitute_bytes,
        "needs_reboot": bool(event.reboot),
        "foreign": foreign({"reboot": event.reboot, "findings": findings}),
    }


async def standing(fleet: Fleet, plan: Plan, hosts: Sequence[Name], file: Path | None) -> Document:
    """Say whether the plan may be applied to these hosts now, and else what a person has to do.

    Raise `PolicyError` for a signature that is not a good one of the plan.
    """
    if plan.expires <= time.time():
        return {"state": "expired", "then": "call plan again"}
    if gone := unknown_hosts(fleet.inventory, plan.hosts):
        why = f"fleet.toml does not have {listed(gone, most=6)} any more, which it is for"
        return {"state": DENIED, "why": why, "then": "call plan again, for the hosts that inventory lists"}
    if forced := forces(plan, hosts, fleet.inventory):
        return {"state": DENIED, "why": f"it {forced}", "human": human.applies(fleet.inventory, plan, hosts)}
    if not hosts:
        is_done = all(one.outcome is Outcome.UNCHANGED for one in plan.left_out)
        return {"state": "nothing_to_do" if is_done else "no_host_can_take_part"}
    plea, _ = plea_for(fleet, plan, file)
    verdict = await fleet.judge(plan, *hosts, plea=plea)
    if verdict is not None and verdict.refused:
        return _refused(fleet, plan, verdict, file)
    if not (verdict and verdict.satisfied) and plan.verb is Verb.DEPLOY and await fleet.strays(plan, hosts):
        return _strayed(fleet, plan, hosts, file, is_governed=verdict is not None)
    try:
        require_signed(plan, fleet.inventory, hosts, plea)
    except PolicyError as error:
        gated = [name for name in hosts if fleet.inventory.hosts[name].gate]
        return {"why": error.message, **_asks(fleet, plan, gated, file)}
    return {"state": READY, "then": "call deploy with this plan"}


def _refused(fleet: Fleet, plan: Plan, verdict: Verdict, file: Path | None) -> Document:
    """Say what a person has to do where policy.toml refuses the plan."""
    demands = [
        {"host": one.host, "says": one.says.value, "rule": one.rule, "why": one.why}
        for one in verdict.demands
        if one.host in verdict.refused
    ]
    told = {"rules": demands, "lacking": verdict.lacking}
    if any(verdict.decisions[host].value == "deny" for host in verdict.refused):
        return {"state": DENIED, "policy": foreign_of(told), "then": "leave these hosts out, or wait for the window"}
    return {"policy": foreign_of(told), **_asks(fleet, plan, verdict.refused, file)}


def _strayed(fleet: Fleet, plan: Plan, hosts: Sequence[Name], file: Path | None, *, is_governed: bool) -> Document:
    """Say what a person has to do about a commit that agents have named, and nobody has let in yet."""
    why = "its commit is not on the branch that is checked out here: it takes a merge, or an approval"
    if is_governed:
        return {"why": why, **_asks(fleet, plan, hosts, file)}
    return {"state": DENIED, "why": why, "human": human.applies(fleet.inventory, plan, hosts)}


def _asks(fleet: Fleet, plan: Plan, hosts: Iterable[Name], file: Path | None) -> Document:
    """Say how a person approves what the plan does to these hosts, if that can be approved."""
    sources = [plan.source_of(name) for name in hosts]
    if plan.verb is not Verb.DEPLOY or not all(source.is_clean and source.revision for source in sources):
        then = "commit everything, and call plan again: what is in no commit cannot be approved"
        return {"state": DENIED, "then": then}
    then = "ask a person to do what `human` says, then call deploy with this plan; it is refused until then"
    asked = human.approves(fleet.inventory, plan, str(file) if file is not None else None)
    return {"state": ASKS, "human": asked, "then": then}


def foreign_of(told: Document) -> Document:
    """Put what others wrote below the key for that."""
    return {"foreign": foreign(told)}


def forces(plan: Plan, hosts: Sequence[Name], inventory: Inventory) -> str:
    """Return what the plan goes over that is there to be asked about; empty if nothing. No tool makes such plans."""
    for part in (plan.parts[name] for name in hosts):
        host = inventory.hosts.get(part.host)
        if part.force:
            return "reboots though people, jobs or locks are interrupted (--force)"
        if part.accept_boot_risk:
            return "accepts a boot risk (--accept-boot-risk)"
        if part.retry_quarantined and plan.verb is not Verb.ROLLBACK:
            return "tries what was found bad again (--retry-quarantined)"
        if host is not None and host.window and not part.windows and part.goal.switches and plan.verb is Verb.DEPLOY:
            return "leaves out the windows of fleet.toml (--ignore-windows)"
    return ""
