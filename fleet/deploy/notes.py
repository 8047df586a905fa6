"""Gather what people should know about a host that keeps its new system."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.deploy import result
from fleet.errors import HostError
from fleet.model import Goal
from fleet.plans import Action
from fleet.steps.monitor import ask_once
from fleet.steps.preflight import preflight

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.deploy.context import Context
    from fleet.model import CheckAnswer
    from fleet.plans import Plan
    from fleet.steps.job import Job


async def notes(context: Context, job: Job, plan: Plan | None, before: Mapping[str, CheckAnswer]) -> list[str]:
    """Return what people should know. `before` has what each check said before the switch."""
    part, link = job.part, context.links[job.host.name]
    if part.checks_decide:
        found = [f"check {one.check} was failing before: {one.said}" for one in before.values() if not one.passed]
    else:
        found = await _on_failing_checks(context, job)
    found += [*result.notes_on_rollback(plan), *filter(None, [link.shortfall])]
    found += [f"others came first: {line}" for line in job.overtaken]
    if part.action is Action.COMMIT:
        is_default = part.goal is Goal.SWITCH
        found.append("ran already; is now the boot default too" if is_default else "ran already")
    if part.action is Action.SECRETS:
        found.append("ran already; its secrets have changed")
    return found


async def _on_failing_checks(context: Context, job: Job) -> list[str]:
    """Return what people who went back should know: which checks fail now, since these did not stop them."""
    try:
        link, emit = context.links[job.host.name], context.journal.emit
        after = await ask_once(job.host, link, context.here, emit=emit, stage="after")
    except HostError as error:
        return [f"its checks could not be asked: {error.message}"]
    return [f"check {one.check} fails now: {one.said}" for one in after.values() if not one.passed]


async def reboot_pending(context: Context, job: Job) -> tuple[str, ...]:
    """Return the parts of the new system that only a reboot makes live. If they are unknown, return why instead."""
    if job.is_surveyed and job.built_there is None and not job.part.by_reboot:
        return job.part.reboot
    try:
        return (await preflight(context.links[job.host.name], job.host)).reboot_pending
    except HostError as error:
        return () if job.part.by_reboot else (f"not known: {error.message}",)  # not to know is no proof
