"""What a fleet can ask of workers, and be for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleet.library.crew.handing import HandOver, hand_over, require_workers
from fleet.library.crew.worker import Worker
from fleet.signing import bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fleet.deploy.stop import Stop
    from fleet.library.drafts import Drafts
    from fleet.library.factory import RunFactory
    from fleet.library.permits import Permit
    from fleet.library.runs import Run
    from fleet.library.tools import Tools
    from fleet.model import HostName
    from fleet.plans import Plan
    from fleet.signing import Signature
    from fleet.state.shares import WorkerRecord

PLACES = 64
"""How many hosts a worker has under way at most, if nobody says how many."""


class WorkersOf:
    """The workers of one fleet. Everything raises `ConfigError` if no database is shared, and `StateError`."""

    def __init__(self, tools: Tools, factory: RunFactory, drafts: Drafts) -> None:
        self._tools = tools
        self._factory = factory
        self._drafts = drafts

    async def all(self) -> list[WorkerRecord]:
        """Return the workers that live, each with what it does, and those that were lost lately."""
        return await asyncio.to_thread(lambda: self._tools.state.crew.workers())

    async def require(self, hosts: Iterable[HostName]) -> None:
        """Raise `ConfigError` if no worker lives for some of these hosts."""
        await asyncio.to_thread(require_workers, self._tools, hosts)

    def hand_over(
        self, plan: Plan, hosts: Sequence[HostName], stop: Stop, permit: Permit, signatures: Sequence[Signature]
    ) -> Run:
        """Let workers apply a plan to these hosts of it, and follow them."""
        signed = bundle.written(plan.digest, signatures) if signatures else ""
        hand = HandOver(self._tools, plan, hosts, signed)
        return hand_over(self._tools, self._factory, self._drafts.take(plan), hand, stop, permit)

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
