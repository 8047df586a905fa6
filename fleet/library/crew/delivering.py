"""Take one host through its part of a run that workers carry out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

from fleet.deploy import result
from fleet.deploy.applying import Applying
from fleet.deploy.available import Available
from fleet.deploy.journal import Journal
from fleet.deploy.resume import Resumer
from fleet.deploy.rollout import Rollout, bug
from fleet.deploy.stop import Stop
from fleet.errors import ConfigError, FleetError, HostError, StateError
from fleet.host.program import HostProgram
from fleet.library import entering
from fleet.library.crew.cache import fetcher
from fleet.library.crew.recording import LostShareError, Saying
from fleet.library.crew.trust import trusted_plan
from fleet.library.patience import Asking
from fleet.model import HostResult, Outcome
from fleet.state import Entered, HostRecord, Hosts, RunRecord
from fleet.state.threads import in_state
from fleet.steps.preflight import preflight
from fleet.steps.program import store_program

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.deploy.context import Context
    from fleet.inventory import Host
    from fleet.library.tools import Tools
    from fleet.model import HostName
    from fleet.plans import Plan
    from fleet.state import Request
    from fleet.state.crew import Claim, Crew
    from fleet.state.shares import Rollout as RolloutRow

ASKED = 1.0
"""Seconds for which the answer to what is asked of a rollout is good: many hosts ask for it."""


class RunHere:
    """What one worker knows of one run, for all of the hosts that it takes through it. Close it afterwards."""

    def __init__(self, tools: Tools, crew: Crew, row: RolloutRow, plan: Plan, worker: str) -> None:
        """`plan` is one that may be applied."""
        self._tools = tools
        self._crew = crew
        self.row = row
        self.plan = plan
        self._worker = worker
        self._entered = Entered(tools.origin, plan.verb)
        self._entered.begin(plan.hosts)
        self.saying = Saying(crew, row.run, worker, self._entered)
        self._resources = contextlib.AsyncExitStack()
        self._context: Context | None = None
        self._program: HostProgram | None = None
        self._available: Available | None = None
        self._opening = asyncio.Lock()
        self._pace = tools.pace()
        self._asked: tuple[float, Request | None] = (0.0, None)
        self._asking = Asking(lambda: tools.state.asked(row.run))

    @classmethod
    async def of(cls, tools: Tools, crew: Crew, row: RolloutRow, worker: str, *, trusts: bool) -> RunHere:
        """Return what is known of a run. Raise `FleetError` if its plan may not be applied here."""
        plan = await trusted_plan(tools, row, trusts=trusts)
        return cls(tools, crew, row, plan, worker)

    @property
    def entered(self) -> Entered:
        """Which events come into the ledger."""
        return self._entered

    async def close(self) -> None:
        """Wait until everything is written, and close all connections."""
        await self._resources.aclose()
        await in_state(self.saying.close)

    async def _open(self) -> tuple[Context, HostProgram, Available]:
        """Open what all hosts of the run share, once."""
        async with self._opening:
            if self._context is None or self._program is None or self._available is None:
                folder = await in_state(self._folder)
                head = await entering.head(self._tools)
                journal = Journal(RunRecord(id=self.row.run), self.row.by)
                opened = await self._resources.enter_async_context(self._tools.context(journal, Stop(), [], folder))
                lines = tuple(line.removeprefix("signature ") for line in self.row.signatures.splitlines()[2:])
                self._context = dataclasses.replace(
                    opened,
                    by=self.row.by,
                    wait=self.row.wait,
                    head=lambda: head,
                    asked=self._what_is_asked,
                    signatures=lambda _: lines,
                )
                self._program = HostProgram(await store_program(self._tools.here))
                self._available = Available(opened.here, opened.supply, folder, fetcher(self._tools))
            return self._context, self._program, self._available

    def _folder(self) -> Path:
        folder = self._tools.state.folder(self.row.run)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"{folder}: cannot be made: {error.strerror}") from error
        return folder

    async def _what_is_asked(self) -> Request | None:
        at, request = self._asked
        if time.monotonic() - at > ASKED:
            with contextlib.suppress(StateError):
                self._asked = (time.monotonic(), await self._asking())
        return self._asked[1] if self._asked[0] else request

    async def deliver(self, claim: Claim) -> None:
        """Take a host through its part. Its result is written afterwards, unless another worker has taken it.

        Raise `StateError` if nothing could be begun, since the database is away.
        """
        name = claim.share.host
        journal = Journal(self._record(HostRecord(name=name)), self.row.by)
        recorder = self.saying.of(journal, name)
        journal.record_in(recorder, must_record=True)
        try:
            await self._deliver(journal, claim)
        except LostShareError:
            return
        except StateError:
            raise
        except HostError as error:
            journal.finish(result.left_out(self._host(name), error))
        except FleetError as error:
            journal.finish(_not_here(name, error))
        except Exception as error:  # a bug; its result names the host and the state that it is in
            journal.finish(bug(name, self.plan.parts[name].closure, error, begun=journal.has_begun(name)))
        with contextlib.suppress(LostShareError):
            await recorder.flush()

    def _record(self, host: HostRecord) -> RunRecord:
        plan = self.plan
        return RunRecord(
            id=self.row.run, verb=plan.verb.value, goal=plan.goal, by=self.row.by, plan=plan.digest, hosts=Hosts([host])
        )

    def _host(self, name: HostName) -> Host:
        found = self._tools.inventory.hosts.get(name)
        if found is None:
            raise ConfigError(f"{name} is not in fleet.toml of the worker {self._worker}", hint="bring it up to date")
        return self.plan.parts[name].apply_policy(found)

    async def _deliver(self, journal: Journal, claim: Claim) -> None:
        host, (opened, program, available) = self._host(claim.share.host), await self._open()
        async with self._tools.links([host], within=self._pace) as links:
            context = dataclasses.replace(opened, journal=journal, links=links)
            if claim.share.attempt > 1 and await self._take_up(context, host):
                return
            if claim.why_not:
                journal.finish(result.skipped(host.name, claim.why_not))
                return
            applying = Applying(context, self._tools.inventory, self.plan, [host.name], available=available)
            jobs = await applying.jobs({})
            if jobs:
                await Rollout(context, self.plan, jobs, program, [host.name]).take(host.name)

    async def _take_up(self, context: Context, host: Host) -> bool:
        """See a host through that a worker has begun with which was lost. Return whether it had begun there.

        What it has brought there otherwise is brought again, and begins once: host and run are the same.
        """
        past = await in_state(self._crew.host_record, self.row.run, host.name)
        if not past.begun:
            return False
        link = context.links[host.name]
        with contextlib.suppress(HostError):  # whoever takes it up says what is wrong
            facts = await preflight(link, host)
            known = (facts.transaction, facts.last)
            if not any(one is not None and one.run == self.row.run for one in known):
                return False
        journal = context.journal
        journal.record = self._record(past)
        await Resumer(context, self._tools.inventory, journal.record, self.plan).resume_all()
        return True

    async def soak(self, claim: Claim) -> None:
        """Watch a host for as long as its wave is, and note what was wrong with it."""
        name = claim.share.host
        opened, *_ = await self._open()
        past = await in_state(self._crew.host_record, self.row.run, name)
        journal = Journal(self._record(past), self.row.by)
        seconds = max((soak.seconds for soak in self.plan.soaks if soak.last == claim.rollout.wave), default=0.0)
        async with self._tools.links([self._host(name)], within=self._pace) as links:
            context = dataclasses.replace(opened, journal=journal, links=links)
            said = await Rollout(context, self.plan, {}, HostProgram(), [name]).watch(name, seconds)
        await in_state(self._end_soak, name, said)

    def _end_soak(self, name: HostName, said: str) -> None:
        with self._crew.hand(self.row.run, by=self.row.by) as hand:
            if hand is not None:
                hand.end_soak(name, self._worker, said)


def _not_here(name: HostName, error: FleetError) -> HostResult:
    """Return the result of a host that this machine cannot deliver to."""
    return HostResult(
        host=name, outcome=Outcome.FAILED, failure=result.with_now(error.failure(), "nothing was changed")
    )
