"""Hand a run over to the workers, and follow it from the machine that began it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time
from typing import TYPE_CHECKING

from fleet.deploy import result
from fleet.deploy.journal import Journal
from fleet.deploy.run import RunResult, finish, unexpected
from fleet.errors import ConfigError, FleetError, StateError
from fleet.events import (
    Envelope,
    HostFinished,
    RecordingLost,
    RecordingResumed,
    RunFinished,
    RunInterrupted,
)
from fleet.library import entering
from fleet.library.crew.advancing import places_of
from fleet.library.crew.cache import give
from fleet.library.crew.conductor import Conductor
from fleet.library.permits import permitted
from fleet.library.record import recording
from fleet.library.runs import Run
from fleet.library.tools import new_run_id
from fleet.model import Verb
from fleet.plans.announce import planned
from fleet.state import Entered, RunRecord, fold
from fleet.state.shares import Rollout, Share
from fleet.state.threads import in_state
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet.deploy.context import Context
    from fleet.deploy.stop import Stop
    from fleet.events import Event
    from fleet.library.drafts import Draft
    from fleet.library.factory import RunFactory
    from fleet.library.permits import Permit
    from fleet.library.runs import OnEnvelope
    from fleet.library.tools import Tools
    from fleet.model import HostName
    from fleet.plans import Plan

POLL = 0.3
"""Seconds between two looks for what workers have told."""
AGAIN = 5.0
"""Seconds after which the run is let go on from here too."""
INTERRUPTED = "interrupted before it began"


def require_workable(plan: Plan, tools: Tools, hosts: Sequence[HostName], *, is_draft: bool) -> None:
    """Raise `ConfigError` if workers cannot carry out the plan, or none lives for some of its hosts."""
    if plan.verb not in (Verb.DEPLOY, Verb.PUSH):
        raise ConfigError(f"--workers: the plan is one to {plan.verb}, and that waits for nobody", hint="leave it out")
    if plan.undo_on_failure:
        raise ConfigError(
            "--workers: workers take nobody back when a run has failed, as undo_on_failure asks for",
            hint="--no-undo-on-failure; fleet rollback takes hosts back afterwards",
        )
    if plan.all_or_nothing and not is_draft:
        raise ConfigError(
            "--workers: the plan is all or nothing, and workers look at each host when its turn has come",
            hint="apply it without --workers",
        )
    require_workers(tools, hosts)


def require_workers(tools: Tools, hosts: Iterable[HostName]) -> None:
    """Raise `ConfigError` if no worker lives for some of these hosts, and `StateError`."""
    sites = sorted({tools.inventory.hosts[name].site for name in hosts} - tools.state.crew.living_sites())
    if sites:
        there = listed([site or "hosts of no site" for site in sites])
        command = f"fleet worker --site {sites[0]}" if sites[0] else "fleet worker"
        raise ConfigError(f"no worker lives for {there}", hint=f"{command} is one; fleet workers lists them")


def hand_over(
    tools: Tools,
    factory: RunFactory,
    draft: Draft | None,
    hand: HandOver,
    stop: Stop,
    permit: Permit,
) -> Run:
    """Begin a run of a plan by handing it over to the workers, and follow it. The draft goes on as the run it began."""
    continues = draft is not None and draft.context.journal.record.verb != Verb.PLAN
    journal = draft.context.journal if draft and continues else Journal(RunRecord(id=new_run_id()), tools.by)

    names = draft.hosts if draft is not None and continues else tuple(hand.hosts)

    async def begin() -> RunResult | None:
        """Hand the run over. Return how it has ended if it has not begun."""
        nonlocal draft
        made, draft = draft, None  # while workers work, nobody needs what it knows of each host
        async with contextlib.AsyncExitStack() as resources:
            if made is not None:
                await resources.enter_async_context(made.resources)
            if made is not None and continues:
                context = dataclasses.replace(made.context, stop=stop)
            else:
                context = await factory.begin_anew(resources, journal, stop, hand.plan, hand.hosts)
            digest = hand.plan.digest
            async with recording(tools.state, journal, context.folder, plan=digest, must_record=True) as record:
                if not hand.hosts:  # nothing is to be done anywhere
                    return dataclasses.replace(finish(journal, stop, names, None), unrecorded=record.trouble)
                try:
                    await hand.begin(context, permit, is_draft=made is not None)
                except Exception as error:
                    reported = error if isinstance(error, FleetError) else unexpected(error)
                    done = finish(journal, stop, names, reported)
                    return dataclasses.replace(done, unrecorded=record.trouble)
        return None

    async def work(on_envelope: OnEnvelope) -> RunResult:
        journal.listen(on_envelope)
        not_begun = await begin()
        return not_begun or await Follower(tools, journal, stop).follow(on_envelope, names)

    return Run(journal, stop, work)


class HandOver:
    """A plan that workers carry out for these hosts of it."""

    def __init__(self, tools: Tools, plan: Plan, hosts: Sequence[HostName], signatures: str) -> None:
        """`signatures` is the text of a file of signatures; empty if nobody has signed the plan."""
        self.plan = plan
        self.hosts = hosts
        self._tools = tools
        self._signatures = signatures

    async def begin(self, context: Context, permit: Permit, *, is_draft: bool) -> None:
        """Record the run as one that has begun, and hand it over. Raise `FleetError`: nothing has begun then.

        `is_draft` says that the plan was made just now.
        """
        journal, plan, tools = context.journal, self.plan, self._tools
        await in_state(require_workable, plan, tools, self.hosts, is_draft=is_draft)
        permitted(context, await permit())
        await give(tools, plan)
        others = [name for name in plan.hosts if name not in self.hosts]
        journal.finish(*(result.skipped(name, "the plan is applied to others only") for name in others))
        for number, wave in enumerate(() if is_draft else plan.waves, 1):
            for name in wave:
                if name not in others:
                    journal.emit(planned(plan.parts[name], number))
        entered = Entered(tools.origin, plan.verb)
        async with entering.begun(tools, journal.run, self.hosts, entered, plan=plan, must_record=True):
            await journal.flush()
            await in_state(tools.state.crew.begin, self._row(context), self._shares())

    def _row(self, context: Context) -> Rollout:
        tools, plan = self._tools, self.plan
        return Rollout(
            run=context.run, plan=plan.digest, signatures=self._signatures, by=tools.by, origin=tools.origin,
            places=places_of(plan), wait=context.wait,
        )  # fmt: skip

    def _shares(self) -> list[Share]:
        chosen, hosts = set(self.hosts), self._tools.inventory.hosts
        return [
            Share(host=name, wave=number, place=place, site=hosts[name].site)
            for number, wave in enumerate(self.plan.waves, 1)
            for place, name in enumerate(wave)
            if name in chosen
        ]


class Follower:
    """Follows a run that workers carry out, and passes on what somebody asks of it here."""

    def __init__(self, tools: Tools, journal: Journal, stop: Stop) -> None:
        """The journal has what was told of the run so far."""
        self._tools = tools
        self._crew = tools.state.crew
        self._journal = journal
        self._stop = stop
        self._conductor = Conductor(tools, self._crew, f"{tools.origin}/{os.getpid()}")
        self._advanced = -AGAIN
        """When the run was let go on from here last."""
        self._lost_at: float | None = None
        self._is_interrupted = False

    async def follow(self, on_envelope: OnEnvelope, hosts: Sequence[HostName]) -> RunResult:
        """Pass on all that is told of the run, to its end. At a second request to stop, leave it to the workers."""
        changed = asyncio.Event()
        with self._stop.calls(changed.set):
            while not self._stop.is_insisted:
                try:
                    await self._push_on()
                    for envelope in await self._news():
                        self._hear(envelope)
                        on_envelope(envelope)
                        if isinstance(envelope.event, RunFinished):
                            return _result(envelope.event)
                    self._tell_found(on_envelope)
                except StateError as error:
                    self._tell_lost(error, on_envelope)
                changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), POLL)
        return self._leave(hosts, on_envelope)

    async def _push_on(self) -> None:
        """Let the run go on from here too, now and then: no worker may live."""
        if self._stop.is_requested and not self._is_interrupted:
            await in_state(self._interrupt)
            self._is_interrupted = True
            self._advanced = -AGAIN
        if time.monotonic() - self._advanced >= AGAIN:
            await self._conductor.advance(self._journal.run)
            self._advanced = time.monotonic()

    def _interrupt(self) -> None:
        with self._crew.hand(self._journal.run, by=self._tools.by) as hand:
            if hand is not None and not hand.rollout.why:
                hand.note(why=INTERRUPTED)
                hand.tell(RunInterrupted())

    async def _news(self) -> list[Envelope]:
        run, after = self._journal.run, self._journal.record.last_seq
        return await in_state(lambda: self._tools.state.events(run, after=after))

    def _hear(self, envelope: Envelope) -> None:
        self._journal.record = fold(self._journal.record, envelope)
        if isinstance(envelope.event, HostFinished):
            self._journal.adopt([envelope.event.result])

    def _tell_lost(self, error: StateError, on_envelope: OnEnvelope) -> None:
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            on_envelope(self._own(RecordingLost(why=error.message)))

    def _tell_found(self, on_envelope: OnEnvelope) -> None:
        if self._lost_at is not None:
            on_envelope(self._own(RecordingResumed(seconds=round(time.monotonic() - self._lost_at, 3))))
            self._lost_at = None

    def _own(self, event: Event) -> Envelope:
        """Return an event that is only told here: the record has none with its number."""
        return Envelope(run=self._journal.run, seq=0, at=round(time.time(), 3), by=self._tools.by, event=event)

    def _leave(self, hosts: Sequence[HostName], on_envelope: OnEnvelope) -> RunResult:
        """Leave the run to the workers, and say what is known of it."""
        results = tuple(self._journal.results[name] for name in hosts if name in self._journal.results)
        code = result.exit_code(results, interrupted=True)
        finished = RunFinished(run=self._journal.run, exit_code=code, error=None, hosts=results)
        on_envelope(self._own(finished))
        return _result(finished)


def _result(finished: RunFinished) -> RunResult:
    return RunResult(run=finished.run, exit_code=finished.exit_code, error=finished.error, hosts=finished.hosts)
