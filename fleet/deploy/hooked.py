"""Run a host's hooks around what one run does to it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fleet.deploy.context import pass_over
from fleet.deploy.result import with_now
from fleet.errors import HookError
from fleet.events import HooksStarted
from fleet.inventory.hooks import When
from fleet.model import Goal, Outcome
from fleet.steps.hooks import Hooks

if TYPE_CHECKING:
    from fleet.deploy.context import Context
    from fleet.model import HostResult
    from fleet.steps.hold import Hold
    from fleet.steps.job import Job

UNTOUCHED = (Outcome.FAILED, Outcome.SKIPPED, Outcome.DEFERRED)
"""The outcomes of a host that has not begun, or that somebody else has taken over."""
ELSEWHERE = "another process has taken up the run there, and has seen it through"
"""What is said of a host that another process tells the end of too."""


class HookedHost:
    """The hooks of one host that a run has a job for."""

    def __init__(self, context: Context, job: Job, *, has_prepared: bool = False) -> None:
        """`has_prepared` says that the hooks before the switch have run, in another process."""
        self._context = context
        self._host = job.host.name
        self._link = context.links[job.host.name]
        self.follow(job)
        self._notes: list[str] = []
        self.has_prepared = has_prepared
        """Whether hooks before the switch have begun to run."""
        self._journal = context.journal
        self._on_commit = pass_over if job.part.goal is Goal.TEST else context.on_commit

    def follow(self, job: Job) -> None:
        """Tell the hooks of this job from now on."""
        context = self._context
        self._hooks = Hooks(
            job.host,
            here=context.here,
            folder=context.home,
            emit=context.journal.emit,
            environment={"FLEET_RUN": context.run, "FLEET_CLOSURE": job.closure, "FLEET_PREVIOUS": job.part.expected},
        )

    async def before_push(self) -> None:
        """Run the hooks before the push. Raise `HookError` if one fails that may not."""
        self._notes += await self._hooks.run(When.BEFORE_PUSH, self._link)

    async def before_switch(self) -> None:
        """Run the hooks before the switch. Raise `HookError` if one fails that may not."""
        if not self._hooks.at(When.BEFORE_SWITCH):
            return
        self.has_prepared = True
        self._journal.emit(HooksStarted(host=self._host, when=When.BEFORE_SWITCH.value))
        await self._journal.flush()  # whoever takes the run up knows what is to be undone
        self._notes += await self._hooks.run(When.BEFORE_SWITCH, self._link)

    async def after(self, ended: HostResult, hold: Hold) -> HostResult:
        """Run the hooks that follow from how the host has ended, and return its result with what became of them.

        Where the `hold` on the run is lost, somebody else runs them, and the result says so.

        A host that keeps the new system, and whose hook failed, is not good. Of a host that needs a human nothing is
        known for sure, so nothing runs.
        """
        failure = None
        if hold.is_lost:
            return dataclasses.replace(ended, notes=(*ended.notes, ELSEWHERE))
        if (when := self._when(ended)) is not None:
            try:
                self._notes += await self._hooks.run(when, self._link, FLEET_OUTCOME=ended.outcome.value)
            except HookError as error:
                failure = error.failure()
        if ended.outcome is Outcome.KEPT:
            await self._on_commit(self._link)
        if failure is not None and ended.failure is None:
            ended = dataclasses.replace(ended, failure=with_now(failure, f"keeps {ended.closure}"))
        elif failure is not None:
            self._notes.append(failure.message)
        return dataclasses.replace(ended, notes=(*ended.notes, *self._notes)) if self._notes else ended

    def _when(self, ended: HostResult) -> When | None:
        if ended.outcome is Outcome.KEPT:
            return When.AFTER_COMMIT
        if ended.outcome is Outcome.ROLLED_BACK or (ended.outcome in UNTOUCHED and self.has_prepared):
            return When.AFTER_ROLLBACK
        return None
