"""What every part of one run works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.host.program import Order
from fleet.steps.site import Sites

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from fleet.deploy.journal import Journal
    from fleet.deploy.stop import Stop
    from fleet.machine import Link, Machine
    from fleet.model import HostName, RunId
    from fleet.plans import Part, Plan
    from fleet.state import Request
    from fleet.steps.secret_values import SecretReader
    from fleet.steps.slow_link import SlowLinks
    from fleet.store.supply import Supply


async def nothing() -> None:
    """Return that nobody has asked for anything."""


def unsigned(_: Plan) -> tuple[str, ...]:
    """Return that a plan has no signatures."""
    return ()


async def pass_over(_: Link) -> None:
    """Do nothing about the host."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """One run, and the tools that all of its steps share."""

    run: RunId
    journal: Journal
    """Receives every event of the run and every result."""
    stop: Stop
    """Says whether somebody asked the run to end."""
    here: Machine
    """The machine that fleet runs on."""
    links: Mapping[HostName, Link]
    supply: Supply
    """Reads what is pushed from the local store: once for all hosts."""
    slow_links: SlowLinks
    """The same for hosts behind slow links, to which deltas are sent."""
    sites: Sites = field(default_factory=Sites)
    """Lets hosts of one site have from each other what the run brings."""
    secrets: SecretReader
    """Reads the values of secrets, each when its host's turn comes."""
    folder: Path
    """The run's own folder. It exists."""
    home: Path
    """The folder of fleet.toml."""
    by: str
    """The person or program that asked for the run."""
    origin: str
    """The name of this machine."""
    break_glass: str = ""
    """Why somebody goes on against the rules, and who. Hosts keep it. Empty if nobody does."""
    head: Callable[[], str] = lambda: ""
    """Returns the head of the ledger that tells of this run; nothing while it is not known."""
    wait: float = 0.0
    """Seconds that each host waits for its turn at most, where others are at work. 0.0: it is refused instead."""
    signatures: Callable[[Plan], tuple[str, ...]] = unsigned
    """Returns the signatures of a plan that hosts with a gate get, each as base64 on one line."""
    asked: Callable[[], Awaitable[Request | None]] = nothing
    """Returns what somebody has asked of the rollout, through the state; None if nothing."""
    on_commit: Callable[[Link], Awaitable[None]] = pass_over
    """Is told of each host that keeps a system from now on. Raises nothing that changes what became of it."""

    def order(self, part: Part, plan: Plan | None) -> Order:
        """Return the order that asks a host to begin with its part."""
        return Order(
            run=self.run,
            part=part,
            by=self.by,
            origin=self.origin,
            plan=plan,
            note=self.break_glass,
            ledger=self.head(),
        )
