"""Say whether a plan may be applied now, who has to agree, and what a person does next."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fleet.errors import FleetError
from fleet.mcp import human
from fleet.mcp.plans import forces, plea_for
from fleet.model import Verb
from fleet.policy import Decision, PrincipalKind

if TYPE_CHECKING:
    from fleet.library.fleet import Fleet
    from fleet.plans import Plan
    from fleet.policy import Approval, Demand
    from fleet.serve.site import Site

FRESH = 30.0
"""Seconds for which a verdict is shown again: to know what is merged, a remote is asked."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a plan stands."""

    state: str
    """`ready`, `asks`, `denied`, `expired`, `applied`, `empty` or `unknown`."""
    word: str
    why: str = ""
    command: str = ""
    """What a person pastes into a terminal. Empty if nothing helps."""
    then: str = ""
    """What they paste after that."""
    approvals: tuple[Approval, ...] = ()
    required: int = 0
    satisfied: str = ""
    able: tuple[str, ...] = ()
    """The people who may approve."""
    demands: tuple[tuple[Demand, int], ...] = ()
    """What rules demand, each with the number of hosts."""


async def standing(site: Site, plan: Plan) -> Standing:
    """Return how the plan stands, as of some seconds ago."""
    runs = [run for run in site.picture.runs if run.record.plan == plan.digest]
    if plan.expires <= time.time():
        return Standing(state="applied" if runs else "expired", word="applied" if runs else "expired")
    if not plan.hosts:
        return Standing(state="empty", word="nothing to do")
    if any(run.record.exit_code is not None for run in runs):
        return Standing(state="applied", word="applied")
    signatures = site.fleet.signatures_file(plan)
    stamp = 0
    with contextlib.suppress(OSError):
        stamp = signatures.stat().st_mtime_ns
    try:
        found: Standing = await site.asking.answer(
            ("standing", plan.digest, stamp), lambda: _judged(site.fleet, plan), fresh=FRESH
        )
    except FleetError as error:
        return Standing(state="unknown", word="cannot be judged", why=error.message)
    return found


async def _judged(fleet: Fleet, plan: Plan) -> Standing:
    inventory = fleet.inventory
    known = [name for name in plan.hosts if name in inventory.hosts]
    applies = human.applies(inventory, plan, plan.hosts)["command"]
    if len(known) < len(plan.hosts):
        return Standing(state="denied", word="of another fleet.toml", why="fleet.toml lacks hosts of this plan")
    plea, _ = plea_for(fleet, plan, None)
    verdict = await fleet.judge(plan, plea=plea)
    forced = forces(plan, plan.hosts, inventory)
    why = f"It {forced}." if forced else ""
    if verdict is None:
        return Standing(state="ready", word="ready", why=why, command=applies)
    counted: dict[tuple[str, str, str], tuple[Demand, int]] = {}
    for demand in verdict.demands:
        key = (demand.says.value, demand.rule, demand.why)
        counted[key] = demand, counted.get(key, (demand, 0))[1] + 1
    principals = fleet.principals()
    tables = principals.tables if principals is not None else {}
    told = Standing(
        state="ready",
        word="ready",
        why=why,
        command=applies,
        approvals=verdict.approvals,
        required=verdict.required if any(one is Decision.ASK for one in verdict.decisions.values()) else 0,
        satisfied=verdict.satisfied,
        able=tuple(name for name, one in tables.items() if one.kind is PrincipalKind.PERSON and one.keys),
        demands=tuple(counted.values()),
    )
    if not verdict.refused:
        return told
    if Decision.DENY in (verdict.decisions[host] for host in verdict.refused):
        return replace(told, state="denied", word="denied", why="A rule denies it.", command="")
    sources = [plan.source_of(name) for name in plan.hosts]
    if plan.verb is not Verb.DEPLOY or not all(one.is_clean and one.revision for one in sources):
        why = "What is in no commit cannot be approved: commit everything, and plan again."
        return replace(told, state="denied", word="cannot be approved", why=why, command="")
    further = verdict.lacking.partition("; ")[2]  # the page has the number of approvals
    command = human.approves(inventory, plan, None)["command"]
    return replace(told, state="asks", word="needs approval", why=further, command=command, then=applies)
