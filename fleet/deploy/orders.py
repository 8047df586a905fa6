"""What a host is asked to do, by the plan and by who asks."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.deploy.context import Context
    from fleet.host.program import Order
    from fleet.plans import Plan
    from fleet.steps.job import Job


async def order_of(context: Context, job: Job, plan: Plan | None) -> Order:
    """Return the order for the host of the job; if the host has a gate, with the signatures of the plan."""
    order = context.order(job.part, plan)
    if not job.host.gate or plan is None:
        return order
    signatures = await asyncio.to_thread(context.signatures, plan)
    return dataclasses.replace(order, signatures=signatures, manifest=job.load.manifest)
