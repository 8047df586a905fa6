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
from fleet.state.shares import RolloutState
from fleet.state.threads import in_state

if TYPE_CHECKING:
    from collections.abc import Collection

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
        self._runs: dict[RunId, tuple[Rollout, Plan]] = {}
        """What is known of the runs that were looked at, and does not change."""
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
            if (known := await self._known(run)) is None:
                return
            is_over = await in_state(self._go_on, *known)
            if is_over and await in_state(self._crew.claim_end, run, self._name):
                await self._end(*known)
                self._runs.pop(run, None)  # whoever sweeps may have forgotten it meanwhile

    async def _known(self, run: RunId) -> tuple[Rollout, Plan] | None:
        """Return the row of a run as it was once, and its plan; None if workers do not carry it out.

        To decide who comes next the plan need not be trusted: whoever delivers looks.
        """
        if run not in self._runs:
            row = await in_state(self._crew.rollout, run)
            if row is None:
                return None
            text = await in_state(self._tools.state.plan, row.plan)
            self._runs[run] = row, await asyncio.to_thread(parse_plan, text.encode("ascii", "replace"), row.plan)
        return self._runs[run]

    def forget_all_but(self, runs: Collection[RunId]) -> None:
        """Forget the other runs, which have ended."""
        for run in set(self._runs) - set(runs):
            self._runs.pop(run, None)

    def _entered(self, plan: Plan) -> Entered:
        entered = Entered(self._tools.origin, plan.verb)
        entered.begin(plan.hosts)
        return entered

    def _go_on(self, row: Rollout, plan: Plan) -> bool:
        """Let the rollout go on. Return whether every host has a result, or somebody has taken it from the workers."""
        with self._crew.hand(row.run, by=row.by, entered=self._entered(plan)) as hand:
            if hand is not None:
                go_on(hand, plan)
            return hand is None or hand.rollout.state is not RolloutState.OPEN

    async def _end(self, row: Rollout, plan: Plan) -> None:
        """Tell the end of a run whose hosts all have results: to the record, and to those whom fleet.toml names."""
        record = await in_state(self._tools.state.run, row.run)
        now = await in_state(self._crew.rollout, row.run)
        if record is None or now is None:
            return
        journal = Journal(record, row.by)
        results = tuple(host.result for host in record.hosts.values() if host.result is not None)
        journal.adopt(results)
        if not await self._has_failed(now, plan):
            await delivering.note(
                self._tools, journal, plan, has_failed=False, is_whole=_is_whole(plan, record), must_root=False
            )
        await remember_ends(self._tools.state, self._tools.inventory, results, time.time())
        finished = _finished(now, results)
        envelope = await in_state(self._tell_end, row, plan, finished)
        if envelope:
            await tell(self._tools, journal, Stop(), hosts=results, intent=plan.intent)
            with contextlib.suppress(FleetError):
                await in_state(self._tools.state.tidy)

    def _tell_end(self, row: Rollout, plan: Plan, finished: RunFinished) -> bool:
        told = self._crew.end(row.run, finished, by=row.by, entered=self._entered(plan))
        return told is not None

    async def _has_failed(self, row: Rollout, plan: Plan) -> bool:
        request = await in_state(self._tools.state.asked, row.run)
        is_aborted = request is not None and request.asked is Asked.ABORT
        return row.bad > plan.max_failures or bool(row.why) or is_aborted


def _is_whole(plan: Plan, record: RunRecord) -> bool:
    return set(plan.hosts) <= set(record.hosts)


def _finished(row: Rollout, results: tuple[HostResult, ...]) -> RunFinished:
    code = result.exit_code(results, interrupted=bool(row.why))
    return RunFinished(run=row.run, exit_code=code, error=None, hosts=results)
