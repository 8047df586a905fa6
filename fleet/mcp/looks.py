"""Look at hosts. Nothing here changes anything. Each method answers one tool, with a page of hosts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from fleet.drift.text import drift_json
from fleet.errors import ConfigError, FleetError
from fleet.library import documents
from fleet.library.meshing import document as mesh_document
from fleet.library.overview import head, host_row
from fleet.mcp.answers import Document, foreign, newest_that_fit, page, problem, rows_from
from fleet.mcp.arguments import After, HostName, Hosts, Lines, Newest, Since, Unit  # noqa: TC001 - the SDK reads these
from fleet.model import HostName as Name
from fleet.text import store_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from fleet.host.facts import HostFacts
    from fleet.host.history import PastTransaction
    from fleet.library.fleet import Fleet
    from fleet.library.views import Health
    from fleet.mcp.desk import Desk

AT_ONCE = 50
"""Hosts that one call asks. The next page asks the next ones."""
JOURNAL = 60.0
"""Seconds to read the lines of a journal. One on a slow disk, or of a host that is busy, may have no end in sight."""
SHORTER = "give a later `since`; status tells how the host is"
LINE = 1000
"""Characters of a line of a journal."""
ALL = ["*"]


class Looks:
    """Tools that look at hosts, for whoever is at the desk."""

    def __init__(self, desk: Callable[[], Desk]) -> None:
        self._desk = desk

    async def inventory(self, hosts: Hosts = ALL, after: After = "") -> Document:
        """The fleet and its hosts as fleet.toml has them, and what each ran when it last answered.

        Asks no host. Begin here.
        """
        async with await self._desk().fleet() as fleet:
            chosen = {host.name: host for host in fleet.select(*hosts)}
            names = rows_from(list(chosen), after)
            seen, waits = await fleet.last_seen(), await fleet.waiting()
            rows = ((name, _apart(host_row(chosen[name], seen.get(name), waits.get(name)))) for name in names)
            return {**({} if after else _apart(head(fleet))), "count": len(chosen), **page(rows, names)}

    async def mesh(self) -> Document:
        """Return who is in the mesh between hosts, by mesh.toml. Asks no host."""
        async with await self._desk().fleet() as fleet:
            if (found := fleet.mesh.read()) is None:
                raise ConfigError("there is no mesh.toml", hint="a person writes it by fleet mesh keys --all")
            told = mesh_document(fleet.inventory, found)
            rows = [(row["name"], row) for row in told["hosts"]]
            return {**told, "count": len(rows), **page(rows, [name for name, _ in rows])}

    async def status(self, hosts: Hosts = ALL, after: After = "") -> Document:
        """Ask hosts what they run, what boots next, which units failed, and what is open there now."""

        async def look(fleet: Fleet, names: tuple[str, ...]) -> Mapping[Any, HostFacts | FleetError]:
            return await fleet.status(*names)

        return await self._asked(hosts, after, look, _status)

    async def health(self, hosts: Hosts = ALL, after: After = "") -> Document:
        """Ask each declared check of these hosts once."""

        async def look(fleet: Fleet, names: tuple[str, ...]) -> Mapping[Any, Health | FleetError]:
            return await fleet.health(*names)

        return await self._asked(hosts, after, look, _health)

    async def history(self, hosts: Hosts = ALL, after: After = "", newest: Newest = 5) -> Document:
        """What has happened on hosts, newest first, as they remember it themselves: who, when, why, how it ended."""

        async def look(fleet: Fleet, names: tuple[str, ...]) -> Mapping[Any, tuple[PastTransaction, ...] | FleetError]:
            return await fleet.history(*names)

        def told(answer: tuple[PastTransaction, ...]) -> Document:
            return {"transactions": [_transaction(entry) for entry in answer[::-1][:newest]]}

        return await self._asked(hosts, after, look, told)

    async def drift(self, hosts: Hosts = ALL, after: After = "") -> Document:
        """Find what nobody declared on hosts, and what is not as it was deployed. Slow: some seconds a host."""

        async def look(fleet: Fleet, names: tuple[str, ...]) -> Mapping[Any, Any]:
            return await fleet.drift(*names)

        def told(answer: Any) -> Document:
            (row,) = drift_json({Name("host"): answer})["hosts"]
            return {
                "count": len(row["findings"]),
                **{key: row[key] for key in ("nixos", "baseline", "verified", "store_paths")},
                "foreign": foreign({key: row[key] for key in ("findings", "notes")}, most=50, share=20_000),
            }

        return await self._asked(hosts, after, look, told, are_computers=True)

    async def logs(self, host: HostName, unit: Unit, lines: Lines = 50, since: Since = "") -> Document:
        """The last lines that a unit has written to the journal of one host."""
        found: list[str] = []
        async with await self._desk().fleet() as fleet:
            if host not in fleet.inventory.hosts:
                raise ConfigError(f"{host}: is no host of fleet.toml", hint="inventory lists them")
            try:
                async with (
                    asyncio.timeout(JOURNAL),
                    contextlib.aclosing(fleet.logs(host, unit=unit, lines=lines, since=since)) as items,
                ):
                    async for _, item in items:
                        if isinstance(item, FleetError):
                            raise item
                        found.append(item)
                        del found[:-lines]
            except TimeoutError:
                raise FleetError(f"{host}: its journal was not read within {JOURNAL:g} s", hint=SHORTER) from None
        shown = newest_that_fit(found, longest=LINE)
        return {"host": host, "left_out": len(found) - len(shown), "foreign": {"lines": shown}}

    async def _asked(
        self,
        hosts: list[str],
        after: str,
        look: Callable[[Fleet, tuple[str, ...]], Awaitable[Mapping[Any, Any]]],
        told: Callable[[Any], Document],
        *,
        are_computers: bool = False,
    ) -> Document:
        """Ask so many of the hosts as one call may, or of their computers, and return a page of what they say."""
        async with await self._desk().fleet() as fleet:
            chosen = fleet.computers(*hosts) if are_computers else fleet.select(*hosts)
            names = rows_from([host.name for host in chosen], after)
            answers = await look(fleet, tuple(names[:AT_ONCE])) if names else {}
        rows = ((name, _row(name, answer, told)) for name, answer in answers.items())
        return page(rows, names)


OTHERS = ("checks", "source", "waves")
"""Keys of the description of a fleet whose texts anybody may have written who edits its files."""


def _apart(told: Document) -> Document:
    """Put what others wrote into a description of a fleet or a host apart."""
    return {
        **{key: value for key, value in told.items() if key not in OTHERS},
        "foreign": foreign({key: told[key] for key in OTHERS if key in told}, most=40),
    }


def _row(name: str, answer: Any, told: Callable[[Any], Document]) -> Document:
    if isinstance(answer, FleetError):
        return {"name": name, "reachable": False, "error": problem(answer)}
    return {"name": name, "reachable": True, **told(answer), "error": None}


def _status(facts: HostFacts) -> Document:
    """Describe a host. What it says of itself as text is apart."""
    ours = documents.status({"host": facts})["hosts"][0]  # type: ignore[dict-item]
    paths = {key: store_path(ours[key]) for key in ("running", "profile", "boot_default", "booted", "staged")}
    numbers = {key: ours[key] for key in ("generation", "since", "nix_free", "boot_free")}
    return {
        **paths,
        **numbers,
        "reboot_pending": ours["reboot_pending"],
        "quarantined": [path for path in map(store_path, facts.quarantined[:10]) if path],
        "state": facts.transaction.state.value if facts.transaction else None,
        "foreign": foreign({
            "failed_units": facts.failed_units,
            "transaction": dataclasses.asdict(facts.transaction) if facts.transaction else None,
            "reboot_needed_for": facts.reboot_pending,
        }),
    }  # fmt: skip


def _health(health: Health) -> Document:
    return {
        "healthy": health.is_healthy,
        "failed": sum(not check.passed for check in health.checks),
        "foreign": foreign({
            "checks": [dataclasses.asdict(check) for check in health.checks],
            "failed_units": health.facts.failed_units,
        }),
    }  # fmt: skip


def _transaction(entry: PastTransaction) -> Document:
    return {
        "state": entry.state.value,
        "began": entry.began,
        "ended": entry.ended,
        "old": store_path(entry.old),
        "new": store_path(entry.new),
        "foreign": foreign(
            {key: getattr(entry, key) for key in ("run", "by", "origin", "plan", "revision", "intent", "reason")},
            share=1500,
        ),
    }
