"""What is told of plans where not all of them is: kept in memory, since plans never change and may be large."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from fleet.errors import ConfigError

if TYPE_CHECKING:
    from fleet.library.fleet import Fleet
    from fleet.model import Goal, Verb
    from fleet.plans import Plan, Source

MOST_HEADS, MOST_PLANS = 500, 4


class PlanHead(NamedTuple):
    """What a list of plans shows of one."""

    digest: str
    by: str
    verb: Verb
    goal: Goal
    made: int
    expires: int
    intent: str
    source: Source
    hosts: int
    waves: int


class PlanHeads:
    """The plans that were looked at lately."""

    def __init__(self) -> None:
        self._heads: OrderedDict[str, PlanHead | None] = OrderedDict()
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._turn = asyncio.Lock()

    async def plan(self, fleet: Fleet, digest: str) -> Plan:
        """Return the plan that this machine keeps. Raise `ConfigError` if there is none."""
        async with self._turn:  # a large one is read only once, however many want it
            if (plan := self._plans.get(digest)) is None:
                plan = await fleet.kept_plan(digest)
            self._plans[plan.digest] = plan
            self._plans.move_to_end(plan.digest)
            while len(self._plans) > MOST_PLANS:
                self._plans.popitem(last=False)
            return plan

    async def head(self, fleet: Fleet, digest: str | None) -> PlanHead | None:
        """Return what is told of the plan; None if this machine does not keep it."""
        if not digest:
            return None
        if digest not in self._heads:
            try:
                self._heads[digest] = _head(await self.plan(fleet, digest))
            except ConfigError:
                self._heads[digest] = None
            while len(self._heads) > MOST_HEADS:
                self._heads.popitem(last=False)
        return self._heads[digest]


def _head(plan: Plan) -> PlanHead:
    return PlanHead(
        digest=plan.digest,
        by=plan.by,
        verb=plan.verb,
        goal=plan.goal,
        made=plan.made,
        expires=plan.expires,
        intent=plan.intent,
        source=plan.source,
        hosts=len(plan.parts),
        waves=len(plan.waves),
    )
