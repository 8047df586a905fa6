"""A worker: takes shares of runs from the queue of its site, and lets rollouts go on, until it is asked to stop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from fleet.deploy import result
from fleet.errors import BugError, FleetError, StateError
from fleet.events import HostFinished
from fleet.library.crew.conductor import Conductor
from fleet.library.crew.delivering import RunHere
from fleet.library.crew.trust import require_trust
from fleet.model import HostResult, Outcome
from fleet.state.shares import Step
from fleet.state.threads import in_state
from fleet.state.workers import WorkerRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fleet.deploy.stop import Stop
    from fleet.library.tools import Tools
    from fleet.model import HostName, RunId
    from fleet.state.crew import Claim

BEAT = 5.0
"""Seconds between two times that a worker says that it lives. After half a minute without, others take what it has."""
TICK = 1.0
"""Seconds between two looks at what is asked of rollouts."""
SWEEP = 5.0
"""Seconds between two looks for what lost workers had, and for rollouts that can go on."""
GRACE = 10.0
"""Seconds in which the queue closes its connections: with a database that hangs it may never."""
AGAIN = 2.0
"""Seconds after which the database is tried again."""


def worker_name(tools: Tools) -> str:
    """Return a name that no other worker has."""
    return f"{tools.origin}-{secrets.token_hex(3)}"


class Worker:
    """One worker. `tell` writes a line for people."""

    def __init__(self, tools: Tools, *, site: str, places: int, trusts: bool, tell: Callable[[str], None]) -> None:
        """Take hosts of this site, so many at a time at most. Raise `ConfigError` if nobody says what to trust."""
        require_trust(tools.inventory, trusts=trusts)
        self._tools = tools
        self._crew = tools.state.crew
        self._trusts = trusts
        self._tell = tell
        self.record = WorkerRecord(
            name=worker_name(tools), site=site, origin=tools.origin, process=os.getpid(), places=places
        )
        self._name = self.record.name
        self._pulse = ThreadPoolExecutor(1, "fleet-worker-lives")
        self._conductor = Conductor(tools, self._crew, self._name)
        self._runs: dict[RunId, asyncio.Task[RunHere]] = {}
        self._doing: dict[tuple[RunId, HostName], asyncio.Event] = {}
        self._soaks: dict[asyncio.Task[None], Claim] = {}
        self._idle: set[tuple[RunId, HostName]] = set()
        """What this worker had by the rows when they were looked at last, and did nothing with."""
        self._swept = -SWEEP
        """When what was lost was looked for last."""
        self._trouble = ""
        """Why the database could not be used the last time. Empty if it could."""

    async def go_on(self, stop: Stop) -> bool:
        """Work until somebody asks for the end. Then take nothing new, and see through what has begun.

        Return whether nothing of it is left; otherwise the process is to end at once, and others take what it has.

        So it is at a second request, and after a bug, which is raised. Raise `StateError` if the database cannot be
        used in the beginning.
        """
        await in_state(self._crew.join, self.record)
        self._tell(f"fleet: worker {self._name} takes hosts of {self.record.site or 'no site'}")
        loops = [
            asyncio.create_task(self._again_and_again(*each)) for each in ((self._live, BEAT), (self._conduct, TICK))
        ]
        taking = asyncio.create_task(self._take())
        leaving = asyncio.create_task(self._leave_when_asked(stop, taking))
        insisted = asyncio.create_task(_insisted(stop))
        await asyncio.wait([leaving, insisted, *loops], return_when=asyncio.FIRST_COMPLETED)
        if not leaving.done():
            await self._gone()
            for loop in loops:
                if loop.done():  # a bug: a worker that does not say that it lives is none
                    loop.result()
            return False
        for task in (insisted, *loops):
            task.cancel()
        await asyncio.gather(insisted, *loops, return_exceptions=True)
        for here in self._runs.values():
            with contextlib.suppress(FleetError):
                await (await here).close()
        await self._gone()
        leaving.result()
        return taking.done()

    async def _gone(self) -> None:
        self._pulse.shutdown(wait=False)
        with contextlib.suppress(StateError):
            await in_state(self._crew.leave, self._name)

    async def _leave_when_asked(self, stop: Stop, taking: asyncio.Task[None]) -> None:
        """Wait for the request to stop, and then until what has begun has ended."""
        await stop.requested()
        self.record = dataclasses.replace(self.record, is_leaving=True)
        count = len(self._doing)
        self._tell(f"fleet: takes nothing new; waits for {count} hosts" if count else "fleet: takes nothing new")
        with contextlib.suppress(StateError):
            await in_state(self._crew.live, self.record)
        is_late = False
        taking.cancel()
        for soak in list(self._soaks):
            soak.cancel()
        await asyncio.gather(*self._soaks, return_exceptions=True)
        while not taking.done() and (self._doing or not is_late):
            _, late = await asyncio.wait([taking], timeout=GRACE)
            is_late = bool(late)

    async def _again_and_again(self, act: Callable[[], Coroutine[None, None, None]], pause: float) -> None:
        while True:
            try:
                await act()
            except StateError as error:
                self._say_trouble(error.message)
            except FleetError as error:  # of one run: the others go on
                self._tell(f"fleet: {error.message}")
            else:
                self._say_trouble("")
            await asyncio.sleep(pause)

    def _say_trouble(self, trouble: str) -> None:
        """Say once that the database is away, and once that it is back."""
        if trouble and not self._trouble:
            self._tell(f"fleet: {trouble}; hosts that have begun are seen through, and no other begins")
        elif self._trouble and not trouble:
            self._tell("fleet: the database is back")
        self._trouble = trouble

    async def _live(self) -> None:
        # In a thread that nobody else has: the others may all wait for the database's lock.
        await asyncio.get_running_loop().run_in_executor(self._pulse, self._crew.live, self.record)

    async def _conduct(self) -> None:
        """Let rollouts go on of which somebody asks something, and now and then all, with what was lost."""
        unheard = await in_state(self._crew.unheard)
        if time.monotonic() - self._swept >= SWEEP:
            self._swept = time.monotonic()
            await in_state(self._crew.mend)
            await self._give_back()
            unfinished = await in_state(self._crew.unfinished)
            self._conductor.forget_all_but(unfinished)
            await self._forget_all_but(unfinished)
            unheard = set(unfinished)
        for run in sorted(unheard):
            await self._conductor.advance(run)

    async def _give_back(self) -> None:
        """Give back what this worker has by the rows and does nothing with, since an answer of the database was lost.

        It is seen twice: what was taken just now may not be known here yet.
        """
        soaked = {(claim.rollout.run, claim.share.host) for claim in self._soaks.values()}
        has = await in_state(self._crew.taken_by, self._name)
        idle = has - soaked - set(self._doing)
        for run, host in idle & self._idle:
            await in_state(self._crew.give_back, run, host, self._name)
        self._idle = idle

    async def _forget_all_but(self, unfinished: set[RunId]) -> None:
        """Close what belongs to runs that have ended."""
        busy = {run for run, _ in self._doing} | {claim.rollout.run for claim in self._soaks.values()}
        for run in set(self._runs) - unfinished - busy:
            with contextlib.suppress(FleetError):
                await (await self._runs.pop(run)).close()

    async def _take(self) -> None:
        """Take shares, until this is cancelled and those that were taken have ended."""
        while not self.record.is_leaving:  # without its database the queue forgets that it was cancelled
            try:
                await self._crew.work(self._handle, site=self.record.site, places=self.record.places, name=self._name)
            except StateError as error:
                self._say_trouble(error.message)
            except Exception as error:  # of the queue's: it is begun anew
                self._tell(f"fleet: the queue: {_bug(error)}")
            await asyncio.sleep(AGAIN)

    async def _handle(self, run: RunId, host: HostName) -> None:
        """Do what is to be done at a host now, if that is not somebody else's. Never raises."""
        try:
            while (before := self._doing.get((run, host))) is not None:  # it was taken from us while we slept
                await before.wait()
            self._doing[run, host] = ended = asyncio.Event()
            try:
                await self._do(run, host)
            finally:
                del self._doing[run, host]
                ended.set()
            await self._conductor.advance(run)
        except StateError as error:  # the rows say what is to be done, to whoever reads them next
            self._say_trouble(error.message)
        except Exception as error:  # a bug; another attempt may find a way
            self._tell(f"fleet: {host}: {_bug(error)}")

    async def _do(self, run: RunId, host: HostName) -> None:
        """Take the share of a host, and do it. To watch a host takes no place."""
        claim = await in_state(self._crew.claim, run, host, self._name)
        if claim is not None and claim.share.step is Step.SOAK:
            task = asyncio.create_task(self._soak(claim))
            self._soaks[task] = claim
            task.add_done_callback(self._soaks.pop)
        elif claim is not None:
            await self._deliver(claim)

    async def _deliver(self, claim: Claim) -> None:
        try:
            here = await self._run_here(claim)
        except StateError:
            raise
        except Exception as caught:  # this machine cannot do it, or a bug: either is told, and the others go on
            error = caught if isinstance(caught, FleetError) else BugError.of(caught)
            failure = result.with_now(error.failure(), "nothing was changed")
            refused = HostResult(host=claim.share.host, outcome=Outcome.FAILED, failure=failure)
            await in_state(self._say, claim.rollout.run, refused)
            self._tell(f"fleet: {claim.share.host}: refused: {error.message}")
            return
        await here.deliver(claim)

    def _say(self, run: RunId, ended: HostResult) -> None:
        with self._crew.hand(run, by=self._name) as hand:
            if hand is not None:
                hand.say([HostFinished(host=ended.host, result=ended)], self._name, ())

    async def _run_here(self, claim: Claim) -> RunHere:
        """Return what this worker knows of a run. Raise `FleetError` if it takes no part in it."""
        run = claim.rollout.run
        if run not in self._runs or (self._runs[run].done() and self._runs[run].exception() is not None):
            opening = RunHere.of(self._tools, self._crew, claim.rollout, self._name, trusts=self._trusts)
            self._runs[run] = asyncio.ensure_future(opening)
        return await asyncio.shield(self._runs[run])

    async def _soak(self, claim: Claim) -> None:
        """Watch a host. If that is interrupted, another worker does it anew."""
        run, host = claim.rollout.run, claim.share.host
        try:
            await (await self._run_here(claim)).soak(claim)
            await self._conductor.advance(run)
        except asyncio.CancelledError:
            with contextlib.suppress(StateError):
                await in_state(self._crew.give_back, run, host, self._name)
            raise
        except Exception as error:
            self._tell(f"fleet: {host}: was not watched to the end, and is watched again: {error}")
            with contextlib.suppress(StateError):
                await in_state(self._crew.give_back, run, host, self._name)


def _bug(error: Exception) -> str:
    """Return the line about a bug."""
    bug = BugError.of(error)
    return f"{bug.message}: {bug.said[-1]}"


async def _insisted(stop: Stop) -> None:
    asked = asyncio.Event()
    with stop.calls(asked.set):
        while not stop.is_insisted:
            await asked.wait()
            asked.clear()
