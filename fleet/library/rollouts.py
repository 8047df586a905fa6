"""Take back what a failed rollout has changed, and go on with a rollout that another process has begun."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

from fleet.deploy import rollout_results
from fleet.deploy.advance import count_bad
from fleet.deploy.options import Options
from fleet.errors import ConfigError, FleetError, StateError
from fleet.events import CheckReported, HostSwitched, OutputLine, PhaseStarted, UndoStarted
from fleet.library.plans import require_applicable
from fleet.model import Outcome, Reboot, Verb
from fleet.plans import Action
from fleet.state import Asked, Hosts

if TYPE_CHECKING:
    from fleet.deploy.context import Context
    from fleet.deploy.journal import Journal
    from fleet.inventory import Inventory
    from fleet.library.factory import RunFactory
    from fleet.model import HostName, HostResult
    from fleet.plans import Part, Plan
    from fleet.state import RunRecord

TOLD = (PhaseStarted, CheckReported, HostSwitched, OutputLine)
"""What is told of the hosts that go back, as events of the run that has failed."""


def must_undo(plan: Plan, journal: Journal) -> bool:
    """Whether the run has failed, and its plan says that hosts go back then."""
    return plan.undo_on_failure and count_bad(journal.results, journal.record.hosts) > plan.max_failures


async def has_failed(context: Context, plan: Plan) -> bool:
    """Whether too many hosts have ended badly, or somebody has interrupted or aborted the run."""
    journal = context.journal
    bad = count_bad(journal.results, journal.record.hosts)
    return bad > plan.max_failures or context.stop.is_requested or await _is_aborted(context)


async def _is_aborted(context: Context) -> bool:
    with contextlib.suppress(StateError):
        request = await context.asked()
        return request is not None and request.asked is Asked.ABORT
    return False


async def undo(factory: RunFactory, fleet: Inventory, context: Context, plan: Plan) -> None:
    """Take the hosts that the run keeps back to where they were, by a run of its own; wait until that has ended.

    The journal gets a new result for each of them. What cannot go back, or was changed by somebody else since, stays.
    """
    journal = context.journal
    kept = {name: ended for name, ended in journal.results.items() if _was_changed(plan, journal, ended)}
    if not kept or context.stop.is_requested or await _is_aborted(context):
        return
    goes_by_reboot = any(plan.parts[name].by_reboot for name in kept)
    options = Options(
        verb=Verb.ROLLBACK,
        retry_quarantined=True,
        is_undo=True,
        reboot=Reboot.IF_NEEDED if goes_by_reboot else Reboot.NEVER,
        intent=f"undo of run {journal.run}",
    )
    planning = factory.plan([fleet.hosts[name] for name in kept], options, context.stop)
    try:
        back = await planning
    except FleetError as error:
        failure = error.failure()
        journal.finish(*(rollout_results.not_undone(ended, failure) for ended in kept.values()))
        return
    hosts = [name for name in back.hosts if _is_as_kept(back.parts[name], kept[name])]
    journal.emit(UndoStarted(hosts=tuple(hosts), undo=planning.run))
    run = factory.apply(back, hosts, context.stop, tells=False)
    try:
        async for event in run:
            if isinstance(event, TOLD):
                journal.emit(event)
    finally:
        await asyncio.shield(run.settled())
        ends = {ended.host: ended for ended in planning.results}
        ends |= {ended.host: ended for ended in run.results if ended.host in hosts}
        # Another process may have taken some back, and was lost then.
        already = [name for name, part in back.parts.items() if part.expected == kept[name].previous]
        journal.finish(
            *(
                rollout_results.undone(ended) if name in already else _after_undo(ended, ends.get(name))
                for name, ended in kept.items()
            )
        )


def _was_changed(plan: Plan, journal: Journal, ended: HostResult) -> bool:
    """Whether this very run has given the host another system, which it keeps."""
    part = plan.parts.get(ended.host)
    if part is None or ended.outcome is not Outcome.KEPT or part.action is not Action.SWITCH:
        return False
    return journal.has_begun(ended.host)


def _is_as_kept(part: Part, kept: HostResult) -> bool:
    """Whether the host runs what it kept, and would go back to what it ran before. Nobody has changed it since then."""
    return part.expected == kept.closure and part.closure == kept.previous


def _after_undo(kept: HostResult, ended: HostResult | None) -> HostResult:
    """Return how the host has ended, by how its way back has."""
    if ended is not None and ended.outcome in (Outcome.KEPT, Outcome.UNCHANGED) and ended.closure == kept.previous:
        return rollout_results.undone(kept, seconds=ended.seconds, reboot_pending=ended.reboot_pending)
    return rollout_results.not_undone(kept, ended.failure if ended is not None else None)


def carry_on(fleet: Inventory, past: RunRecord, plan: Plan | None) -> tuple[Plan, list[HostName]]:
    """Return the plan of a rollout that another process has begun, and the hosts that it is applied to.

    Raise `ConfigError` if nobody can go on with it: its plan is not known, has expired or is of another fleet.
    """
    if plan is None:
        raise ConfigError(f"the plan of run {past.id} is not known here", hint="fleet resume tells what became of it")
    names = [name for name in plan.hosts if name in past.hosts]
    return plan, list(require_applicable(plan, fleet, names, now=time.time()))


def settled(past: RunRecord) -> dict[HostName, HostResult]:
    """Return the results of the hosts that have ended. Who was only skipped may still begin."""
    return {
        name: host.result
        for name, host in past.hosts.items()
        if host.is_settled and host.result is not None and host.result.outcome is not Outcome.SKIPPED
    }


def begun(past: RunRecord) -> RunRecord:
    """Return the run with those of its hosts only that may have begun and have not been seen to the end."""
    ended = settled(past)
    return dataclasses.replace(
        past, hosts=Hosts([host for name, host in past.hosts.items() if host.begun and name not in ended])
    )
