"""Let rollouts go on, and end them, on behalf of all workers. Whoever does so holds the rollout's row meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from fleet.deploy import result
from fleet.deploy.journal import Journal
from fleet.deploy.stop import Stop
from fleet.errors import FleetError
from fleet.events import RunFinished
from fleet.library import delivering
from fleet.library.crew.advancing import go_on
from fleet.library.plans import parse_plan
from fleet.library.seen import remember_ends
from fleet.library.telling import tell
from fleet.state import Asked, Entered

if TYPE_CHECKING:
    from fleet.library.tools import Tools
    from fleet.model import HostResult, RunId
    from fleet.plans import Plan
    from fleet.state import RunRecord
    from fleet.state.crew import Crew
    from fleet.state.shares import Rollout


class Conductor:
    """Acts for one process, which has this `name` among the workers or is none of them."""

    def __init__(self, tools: Tools, crew: Crew, name: str) -> None:
        self._tools = tools
        self._crew = crew
        self._name = name
        self._plans: dict[str, Plan] = {}
        """The plans of the runs that were looked at, by their digests."""
        self._moving: dict[RunId, asyncio.Lock] = {}
        self._again: set[RunId] = set()

    async def advance(self, run: RunId) -> None:
        """Let a rollout go on as far as it may, and tell its end if it has come. Raise `StateError`.

        Calls while another one waits for its turn come to nothing: that one sees the same.
        """
        if run in self._again:
            return
        self._again.add(run)
        async with self._moving.setdefault(run, asyncio.Lock()):
            self._again.discard(run)
            row = await asyncio.to_thread(self._crew.rollout, run)
            if row is None:
                return
            plan = await self._plan(row)
            await asyncio.to_thread(self._go_on, row, plan)
            if await asyncio.to_thread(self._crew.claim_end, run, self._name):
                await self._end(row, plan)
                self.forget(row)

    def forget(self, row: Rollout) -> None:
        """Forget what is known of a run that has ended."""
        self._plans.pop(row.plan, None)
        self._moving.pop(row.run, None)

    async def _plan(self, row: Rollout) -> Plan:
        """Return the plan of a run. To decide who comes next it need not be trusted: whoever delivers looks."""
        if row.plan not in self._plans:
            text = await asyncio.to_thread(self._tools.state.plan, row.plan)
            self._plans[row.plan] = await asyncio.to_thread(parse_plan, text.encode("ascii", "replace"), row.plan)
        return self._plans[row.plan]

    def _entered(self, plan: Plan) -> Entered:
        entered = Entered(self._tools.origin, plan.verb)
        entered.begin(plan.hosts)
        return entered

    def _go_on(self, row: Rollout, plan: Plan) -> None:
        with self._crew.hand(row.run, by=self._tools.by, entered=self._entered(plan)) as hand:
            if hand is not None:
                go_on(hand, plan)

    async def _end(self, row: Rollout, plan: Plan) -> None:
        """Tell the end of a run whose hosts all have results: to the record, and to those whom fleet.toml names."""
        record = await asyncio.to_thread(self._tools.state.run, row.run)
        now = await asyncio.to_thread(self._crew.rollout, row.run)
        if record is None or now is None:
            return
        journal = Journal(record, self._tools.by)
        results = tuple(host.result for host in record.hosts.values() if host.result is not None)
        journal.adopt(results)
        if not await self._has_failed(now, plan):
            await delivering.note(self._tools, journal, plan, has_failed=False, is_whole=_is_whole(plan, record))
        await remember_ends(self._tools.state, self._tools.inventory, results, time.time())
        finished = _finished(now, results)
        envelope = await asyncio.to_thread(self._tell_end, row, plan, finished)
        if envelope:
            await tell(self._tools, journal, Stop(), hosts=results, intent=plan.intent)
            with contextlib.suppress(FleetError):
                await asyncio.to_thread(self._tools.state.tidy)

    def _tell_end(self, row: Rollout, plan: Plan, finished: RunFinished) -> bool:
        told = self._crew.end(row.run, finished, by=self._tools.by, entered=self._entered(plan))
        return told is not None

    async def _has_failed(self, row: Rollout, plan: Plan) -> bool:
        request = await asyncio.to_thread(self._tools.state.asked, row.run)
        is_aborted = request is not None and request.asked is Asked.ABORT
        return row.bad > plan.max_failures or bool(row.why) or is_aborted


def _is_whole(plan: Plan, record: RunRecord) -> bool:
    return set(plan.hosts) <= set(record.hosts)


def _finished(row: Rollout, results: tuple[HostResult, ...]) -> RunFinished:
    code = result.exit_code(results, interrupted=bool(row.why))
    return RunFinished(run=row.run, exit_code=code, error=None, hosts=results)
