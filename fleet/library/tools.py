"""The tools of a fleet, and the context that one run gets from them."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import secrets
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.deploy.context import Context
from fleet.errors import StateError
from fleet.inventory.profiles import computer
from fleet.library.patience import Asking
from fleet.machine.local import LocalMachine
from fleet.machine.pace import Pace
from fleet.machine.pipe import LocalStreams
from fleet.model import HostName, RunId
from fleet.nix import with_options
from fleet.steps.secret_values import SecretReader
from fleet.steps.slow_link import SlowLinks
from fleet.store.supply import Supply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from fleet.deploy.journal import Journal
    from fleet.deploy.stop import Stop
    from fleet.inventory import Host, Inventory
    from fleet.machine import Command, Connector, Link, Machine, OnLine, Output, TcpStream
    from fleet.plans import Plan
    from fleet.policy import Actor
    from fleet.state import State


def new_run_id() -> RunId:
    """Return a run id that sorts by time, also beside others of the same second, and that nobody else has.

    What waits for a host is what the later of two runs asked for, and agents start several a second. Digits after the
    `-`: four for the part of the second, in 1/65536 s, and four by chance.
    """
    second, part = divmod(time.time_ns(), 10**9)
    begun = time.strftime("%Y%m%dT%H%M%S", time.gmtime(second))
    return RunId(f"{begun}-{part * 65536 // 10**9:04x}{secrets.token_hex(2)}")


def new_fleet_id() -> str:
    """Return an id that no other fleet has."""
    return secrets.token_hex(16)


def user() -> str:
    """Return the name of the user that this process runs as."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the uid has no name, as in a container
        return "unknown"


class LocalNix:
    """This machine, whose Nix commands get the options of a fleet."""

    def __init__(self, options: Mapping[str, str], machine: Machine | None = None) -> None:
        self._options = options
        self._machine = machine if machine is not None else LocalMachine()

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        """See `Machine.run`."""
        return await self._machine.run(with_options(command, self._options), on_line=on_line)

    def dial(self, host: str, port: int, *, timeout: float) -> AbstractAsyncContextManager[TcpStream]:
        """See `Machine.dial`."""
        return self._machine.dial(host, port, timeout=timeout)


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What a fleet works with."""

    inventory: Inventory
    logins: Connector
    state: State
    here: Machine = field(default_factory=LocalMachine)
    new_supply: Callable[[], Supply] = lambda: Supply(LocalStreams())
    by: str = field(default_factory=user)
    """The person or program that acts."""
    origin: str = field(default_factory=socket.gethostname)
    """The name of this machine."""
    acts_as: Actor | None = None
    """Who that is by principals.toml; None for the local user, where nothing says otherwise."""
    unentered: list[str] = field(default_factory=list, compare=False)
    """What was done and could not be entered in the ledger, for people: a line each."""

    @property
    def actor(self) -> Actor:
        """Who acts, as a policy sees it."""
        from fleet.policy import Actor  # whoever is alone has no policy

        return self.acts_as or Actor(self.by)

    @contextlib.asynccontextmanager
    async def context(
        self, journal: Journal, stop: Stop, hosts: Sequence[Host], folder: Path
    ) -> AsyncIterator[Context]:
        """Open everything that a run with these hosts uses, while inside."""
        async with self.links(hosts) as links, self.new_supply() as supply, SlowLinks(supply) as slow_links:
            yield Context(
                run=journal.run,
                journal=journal,
                stop=stop,
                here=self.here,
                links=links,
                supply=supply,
                slow_links=slow_links,
                secrets=self.secret_reader(),
                folder=folder,
                home=self.inventory.path.parent,
                by=self.by,
                origin=self.origin,
                signatures=self._signatures_once(),
                asked=Asking(lambda: self.state.asked(journal.run)),
                on_commit=self._keep_first_baseline,
            )

    def _signatures_once(self) -> Callable[[Plan], tuple[str, ...]]:
        """Return what reads the signatures of a plan that this machine keeps: once, for all hosts of a run.

        Whoever is let go ahead with a plan has brought them before its first host begins.
        """
        known: dict[str, tuple[str, ...]] = {}

        def signatures(plan: Plan) -> tuple[str, ...]:
            from fleet.library.plans import signatures_file
            from fleet.library.signatures import read_signatures  # most hosts have no gate

            if plan.digest not in known:
                kept = read_signatures(plan, signatures_file(plan, self.state))
                known[plan.digest] = tuple(signature.line for signature in kept)
            return known[plan.digest]

        return signatures

    async def _keep_first_baseline(self, link: Link) -> None:
        """Remember what there is on a host beside its first system, so that `fleet drift` knows it again."""
        with contextlib.suppress(StateError):
            if not await Asking(lambda: self.state.has_baseline(HostName(computer(link.host))))():
                from fleet.drift import keep_first  # only a first deployment needs it

                await keep_first(self.state, link, self.by)

    def secret_reader(self) -> SecretReader:
        """Return what reads the values of secrets on this machine."""
        inventory = self.inventory
        return SecretReader(self.here, folder=inventory.path.parent, identities=inventory.age_identities)

    def pace(self) -> Pace | None:
        """Return what keeps hosts within the bandwidth of [rollout] together; None if that is not limited."""
        cap = self.inventory.rollout.bandwidth
        return Pace(cap) if cap else None

    @contextlib.asynccontextmanager
    async def links(self, hosts: Sequence[Host], *, within: Pace | None = None) -> AsyncIterator[dict[HostName, Link]]:
        """Make a link to each host, which connects when it is first used, and close it afterwards.

        All of them stay `within` the pace, or else within that of [rollout].
        """
        shared = within or self.pace()
        links: dict[HostName, Link] = {
            host.name: self.logins.link(host, pace=Pace(host.bandwidth, within=shared) if host.bandwidth else shared)
            for host in hosts
        }
        try:
            yield links
        finally:
            await asyncio.gather(*(link.close() for link in links.values()))
