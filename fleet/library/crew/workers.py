"""What a fleet can ask of workers, and be for them."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

from fleet.deploy.stop import Stop
from fleet.errors import ConfigError
from fleet.library.crew.handing import HandOver, hand_over, require_workers
from fleet.library.crew.worker import Worker
from fleet.library.governed import NOTHING
from fleet.library.plans import require_applicable
from fleet.signing import bundle
from fleet.state.threads import in_state

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from fleet.events import PolicyApplied
    from fleet.library.drafts import Drafts
    from fleet.library.factory import RunFactory
    from fleet.library.judging import Plea
    from fleet.library.runs import Run
    from fleet.library.tools import Tools
    from fleet.model import HostName
    from fleet.plans import Plan
    from fleet.state.workers import WorkerRecord

    PermitOf = Callable[..., Awaitable[PolicyApplied | None]]

PLACES = 64
"""How many hosts a worker has under way at most, if nobody says how many."""


class WorkersOf:
    """The workers of one fleet. Everything raises `ConfigError` if no database is shared, and `StateError`."""

    def __init__(
        self,
        tools: Tools,
        factory: RunFactory,
        drafts: Drafts,
        permit: PermitOf,
        register: Callable[[Run], Run],
    ) -> None:
        self._tools = tools
        self._factory = factory
        self._drafts = drafts
        self._permit = permit
        self._register = register

    async def all(self) -> list[WorkerRecord]:
        """Return the workers that live, each with what it does, and those that were lost lately."""
        return await in_state(lambda: self._tools.state.crew.workers())

    async def require(self, hosts: Iterable[HostName]) -> None:
        """Raise `ConfigError` if no worker lives for some of these hosts."""
        await in_state(require_workers, self._tools, hosts)

    def apply(self, plan: Plan, *selectors: str, stop: Stop | None = None, plea: Plea = NOTHING) -> Run:
        """Let workers apply a plan, or its part for some hosts, and follow them. See `Fleet.apply`.

        Where there are principals, `plea` has the signature of its author. At a request to stop, no further host
        begins; a second one leaves the run to the workers.
        """
        if plea.break_glass:
            raise ConfigError(
                "--break-glass waits for nobody, and workers keep to the rules", hint="leave --workers out"
            )
        hosts = require_applicable(plan, self._tools.inventory, selectors, now=time.time())
        is_own = self._drafts.find(plan) is not None
        permit = functools.partial(self._permit, plan, hosts, plea, is_own=is_own)
        signed = bundle.written(plan.digest, plea.signatures) if plea.signatures else ""
        hand = HandOver(self._tools, plan, hosts, signed)
        run = hand_over(self._tools, self._factory, self._drafts.take(plan), hand, stop or Stop(), permit)
        return self._register(run)

    def work(
        self,
        *,
        site: str = "",
        places: int = PLACES,
        trust_database: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Worker:
        """Return a worker for the hosts of a site, which begins with `go_on`. `tell` writes a line for people.

        Without principals.toml it must be told to `trust_database`.
        """
        return Worker(self._tools, site=site, places=places, trusts=trust_database, tell=tell)
