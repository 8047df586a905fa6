"""Find out about a fleet without changing it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fleet import selector
from fleet.deploy.looks import LATE
from fleet.deploy.target import closures_of, require_local
from fleet.errors import ConfigError, FleetError, StateError
from fleet.host import answers, history
from fleet.host.program import HostProgram, ask
from fleet.inventory.profiles import computers
from fleet.library.changes import Changes, changes
from fleet.library.ledgers import FleetLedger
from fleet.library.listed import remember_listed
from fleet.library.logs import journal_of, read_logs
from fleet.library.past import PastRun, difference, find_run
from fleet.library.plans import parse_plan
from fleet.library.reading import ask_all, ignore
from fleet.library.seen import LastSeen, remember, remembered
from fleet.library.telling import Telling
from fleet.library.tools import new_run_id
from fleet.library.views import Health
from fleet.library.watching import waiting, watch
from fleet.model import RunId
from fleet.source import evaluations
from fleet.state.threads import in_state
from fleet.steps.preflight import preflight

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from fleet.diff import SystemDiff
    from fleet.drift import DriftReport
    from fleet.events import Emit, Envelope
    from fleet.host.answers import Generation
    from fleet.host.facts import HostFacts
    from fleet.host.history import PastTransaction
    from fleet.inventory import Host, Inventory
    from fleet.library.reading import OnWait
    from fleet.library.watching import Watched
    from fleet.machine import Link
    from fleet.model import Closure, HostName
    from fleet.plans import Plan
    from fleet.state import Delivery, PlanRecord, RunRecord


class FleetReader(Telling):
    """Asks hosts, and this machine, for what can be known without changing anything."""

    unread: StateError | None = None
    """Why the state could not be read when runs were asked for last: they are what this machine knows by itself."""

    @property
    def inventory(self) -> Inventory:
        """The contents of fleet.toml."""
        return self._tools.inventory

    def select(self, *selectors: str) -> tuple[Host, ...]:
        """Return the hosts that any of the selectors names, or all, in the order of the file.

        Raise `ConfigError` for none.
        """
        return selector.select(self.inventory, selectors) if selectors else tuple(self.inventory.hosts.values())

    def computers(self, *selectors: str) -> tuple[Host, ...]:
        """Return one of these hosts for each computer that they are on, as for what is asked of all of it."""
        return computers(self.inventory, self.select(*selectors))

    async def status(self, *selectors: str, on_wait: OnWait = ignore) -> dict[HostName, HostFacts | FleetError]:
        """Return what each host is and runs, or why it cannot be asked.

        A transaction that a reboot interrupted is settled. `on_wait` gets the names of those that are left, whenever
        they become fewer. A silent host gets 2 s more than the others, or its `connect_timeout`. See also `last_seen`.
        """

        async def look(host: Host, link: Link) -> HostFacts:
            facts = await preflight(link, host)
            seen[host.name] = LastSeen.of(facts, time.time(), link.host_key)
            return facts

        seen: dict[HostName, LastSeen] = {}
        found = await ask_all(self._tools.logins, self.select(*selectors), look, on_wait=on_wait, late=LATE)
        await remember(self._tools.state, self.inventory, seen)
        return found

    async def last_seen(self) -> dict[HostName, LastSeen]:
        """Return what each host was when `status` has reached it last, from this machine."""
        return await remembered(self._tools.state)

    async def waiting(self) -> dict[HostName, Delivery]:
        """Return what waits for hosts that were away. Where that cannot be read, nothing is said to wait."""
        return await waiting(self._tools.state)

    def watch(self, *selectors: str, every: float = 10.0) -> AsyncGenerator[dict[HostName, Watched]]:
        """Yield what each host is and runs, now and whenever that is known anew, without an end.

        Each host is asked again `every` so many seconds after its last answer; those that do not answer keep nobody
        waiting. Close the generator with `aclose` to end it.
        """
        return watch(self._tools, self.select(*selectors), every=every)

    async def health(self, *selectors: str, on_wait: OnWait = ignore) -> dict[HostName, Health | FleetError]:
        """Ask the declared checks of each host once, and find its failed units."""
        from fleet import checks  # only this asks them

        here = self._tools.here

        async def look(host: Host, link: Link) -> Health:
            facts = await preflight(link, host)
            found = await asyncio.gather(*(checks.ask(check, host=link, controller=here) for check in host.checks))
            return Health(facts=facts, checks=tuple(found))

        return await ask_all(self._tools.logins, self.select(*selectors), look, on_wait=on_wait)

    async def generations(
        self, *selectors: str, on_wait: OnWait = ignore
    ) -> dict[HostName, tuple[Generation, ...] | FleetError]:
        """Return the generations of each host, oldest first. They say which one runs, and where a rollback would go."""

        async def look(host: Host, link: Link) -> tuple[Generation, ...]:
            return answers.generations(await ask(link, host, HostProgram().call("generations")))

        found = await ask_all(self._tools.logins, self.select(*selectors), look, on_wait=on_wait)
        await asyncio.to_thread(remember_listed, self.inventory.name, found)
        return found

    def logs(
        self, *selectors: str, unit: str, lines: int | None = None, since: str = "", follow: bool = False
    ) -> AsyncGenerator[tuple[HostName, str | FleetError]]:
        """Yield what a unit has written to the journal of each host, line by line, and why a host cannot be read.

        That is its last `lines` lines, all if that is None, or all after `since`: a duration such as `10m`, or a time
        of the host. One host comes after another; with `follow` lines come as they are written, without an end. The
        unit's name may have the wildcards `*` and `?`. Close the generator with `aclose` to end it early. Raise
        `ConfigError` for a unit or a time that is none.
        """
        asked = journal_of(unit, lines=lines, since=since, follow=follow)
        return read_logs(self._tools.logins, self.computers(*selectors), asked, is_endless=follow)

    async def drift(
        self, *selectors: str, accept: bool = False, on_wait: OnWait = ignore
    ) -> dict[HostName, DriftReport | FleetError]:
        """Return what is on each host that nobody declared, and what is not there as it was deployed.

        If it is to `accept` that, this machine remembers what is there now, and it is no drift any more. Nothing is
        changed on the hosts.
        """
        from fleet.library.drifting import find_drift  # only this looks for it

        return await find_drift(self._tools, self.computers(*selectors), accept=accept, on_wait=on_wait)

    async def history(
        self, *selectors: str, on_wait: OnWait = ignore
    ) -> dict[HostName, tuple[PastTransaction, ...] | FleetError]:
        """Return the transactions that each host remembers, oldest first: its last 100, whoever began them."""

        async def look(host: Host, link: Link) -> tuple[PastTransaction, ...]:
            return history.entries(await ask(link, host, HostProgram().call("history")))

        return await ask_all(self._tools.logins, self.select(*selectors), look, on_wait=on_wait)

    @property
    def ledger(self) -> FleetLedger:
        """The ledger of this machine: its entries, whether they are right, and how something is entered."""
        return FleetLedger(self._tools, self.history)

    async def changes(self, *selectors: str, since: str = "", on_wait: OnWait = ignore) -> Changes:
        """Return what has happened on hosts since the cursor that an earlier call has returned, and the next cursor.

        Without `since` that is nothing. Raise `ConfigError` for what is no cursor of this fleet.
        """
        return await changes(self._tools, self.select(*selectors), since, on_wait)

    async def build(self, *selectors: str, eval_cache: bool = True, on_event: Emit = ignore) -> dict[HostName, Closure]:
        """Build the closure of each host here and return it. No host is contacted.

        It has a root for as long as it is among the newest builds. Raise `EvaluationError`, `BuildError` or
        `StateError`.
        """
        hosts = self.select(*selectors)
        cache = evaluations.users_own() if eval_cache else None
        with self._tools.state.hold(new_run_id(), is_new=True) as folder:
            found = await closures_of(
                self._tools.here, self.inventory, hosts, folder=folder, cache=cache, emit=on_event
            )
        with contextlib.suppress(StateError):
            await in_state(self._tools.state.tidy)
        return found

    async def diff(
        self,
        *selectors: str,
        closure: Closure | None = None,
        eval_cache: bool = True,
        on_event: Emit = ignore,
        on_wait: OnWait = ignore,
    ) -> dict[HostName, SystemDiff | FleetError]:
        """Compare what each host runs with what it would get: its own closure, or `closure` for all of them.

        Raise `ConfigError`, `EvaluationError` or `BuildError`.
        """
        from fleet.diff import read_diff  # only this compares

        hosts, here = self.select(*selectors), self._tools.here
        cache = evaluations.users_own() if eval_cache else None
        with tempfile.TemporaryDirectory(prefix="fleet-diff-") as folder:
            if closure is not None:
                wanted = dict.fromkeys((host.name for host in hosts), await require_local(here, closure))
            else:
                wanted = await closures_of(here, self.inventory, hosts, folder=Path(folder), cache=cache, emit=on_event)

            async def look(host: Host, link: Link) -> SystemDiff:
                facts = await preflight(link, host)
                return await read_diff(link, facts.running, here, wanted[host.name])

            return await ask_all(self._tools.logins, hosts, look, on_wait=on_wait)

    async def kept_plan(self, digest: str) -> Plan:
        """Return the plan kept here whose digest begins with `digest`. Raise `ConfigError` if there is no such plan."""
        state = self._tools.state
        return await in_state(lambda: parse_plan(state.plan(digest).encode(), f"plan {digest}"))

    async def kept_plans(self) -> list[PlanRecord]:
        """Return the plans that this machine keeps, newest first; expired ones for a while, too."""
        return await in_state(self._tools.state.plans)

    async def runs(self) -> list[tuple[RunRecord, bool]]:
        """Return the runs that this machine remembers, newest first, each with whether it is under way now."""
        state, self.unread = self._tools.state, None
        try:
            records = await in_state(state.runs)
        except StateError as error:
            self.unread, records = error, state.runs_in_folders()
        under_way = await in_state(state.under_way, [record.id for record in records])
        return [(record, record.id in under_way) for record in records]

    async def events(self, run: str, *, after: int = 0) -> list[Envelope]:
        """Return the events of a run with numbers above `after`, in order. Progress of pushes is not among them.

        A run that this machine does not remember has none. Raise `StateError` if the memory cannot be read.
        """
        return await in_state(self._tools.state.events, RunId(run), after=after)

    async def past_run(self, run: str) -> PastRun:
        """Return everything that this machine remembers of the run with this id, or whose id alone begins so.

        Raise `ConfigError` if there is none, or more than one, and `StateError` if its events cannot be read.
        """
        state = self._tools.state
        record, is_under_way = find_run(await self.runs(), run)
        plan = None
        if record.plan is not None:
            with contextlib.suppress(FleetError):
                plan = await self.kept_plan(record.plan)
        return PastRun(
            record=record,
            is_under_way=is_under_way,
            envelopes=tuple(await self.events(record.id)),
            folder=state.folder(record.id),
            plan=plan,
        )

    async def past_diff(self, past: PastRun, host: HostName) -> SystemDiff | None:
        """Return what a run was to change on a host; None if it was to change nothing.

        Only what is not in this machine's store any more is read on the host. Raise `ConfigError` if the host was not
        in the run, and `FleetError` if it is not known any more.
        """
        known = self.inventory.hosts.get(host)
        async with self._tools.links([known] if known else []) as links:
            return await difference(past.host(host), past.record.id, links.get(host), self._tools.here)

    async def open_run(self, run: str | None = None) -> RunRecord:
        """Return the run that `resume` would take up: the one with this id, or the newest open one.

        Raise `ConfigError` if there is none.
        """
        found = await self.runs()
        if run is not None:
            for record, _ in found:
                if record.id == run:
                    return record
            raise ConfigError(f"there is no run {run} in this machine's memory", hint="fleet runs lists what there is")
        ended = [record for record, is_under_way in found if not is_under_way]
        for record in (*(each for each in ended if each.is_open), *(each for each in ended if not each.is_readable)):
            return record
        under_way = [record.id for record, is_under_way in found if is_under_way]
        still = f" but what is still under way in another process: {', '.join(under_way)}" if under_way else ""
        raise ConfigError(
            f"no run is open{still}", hint="fleet runs lists them; fleet status tells what each host runs"
        )
