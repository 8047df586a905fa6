"""The resources: what tools that only look say, and who is in the mesh. Each is JSON, with a first page of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleet.errors import ConfigError
from fleet.mcp.answers import Document  # noqa: TC001 - the SDK reads it while running
from fleet.mcp.looks import Looks
from fleet.mcp.plans import Plans
from fleet.mcp.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fleet.mcp.desk import Desk


@dataclass(frozen=True, kw_only=True)
class Resource:
    """Something that can be read by its address."""

    uri: str
    name: str
    description: str
    toolset: str
    reads: Callable[..., Coroutine[Any, Any, Document]]


def resources(desk: Callable[[], Desk]) -> tuple[Resource, ...]:
    """Return every resource, for whoever is at the desk when it is read."""
    looks, runs, plans = Looks(desk), Runs(desk), Plans(desk)

    async def inventory() -> Document:
        return await looks.inventory()

    async def inventory_after(after: str) -> Document:
        return await looks.inventory(after=after)

    async def host(name: str) -> Document:
        row: Document = (await looks.status([_name(name)]))["hosts"][0]
        (declared,) = (await looks.inventory([_name(name)]))["hosts"]
        return {**row, "declared": declared}

    async def history(name: str) -> Document:
        return await looks.history([_name(name)], newest=20)

    async def mesh() -> Document:
        return await looks.mesh()

    async def runs_of_here() -> Document:
        return await runs.runs()

    async def run(run: str) -> Document:
        return await runs.run(run)

    async def kept_plans() -> Document:
        return await plans.plans()

    async def plan(digest: str) -> Document:
        return await plans.show_plan(digest)

    def at(uri: str, name: str, description: str, toolset: str, reads: Any) -> Resource:
        return Resource(uri=f"fleet://{uri}", name=name, description=description, toolset=toolset, reads=reads)

    return (
        at("inventory", "inventory", "The fleet and its hosts", "hosts", inventory),
        at("inventory/{after}", "inventory_after", "The hosts behind `next`", "hosts", inventory_after),
        at("hosts/{name}", "host", "What one host is and runs; asks it", "hosts", host),
        at("history/{name}", "history", "What has happened on one host; asks it", "hosts", history),
        at("mesh", "mesh", "Who is in the mesh between hosts, by mesh.toml", "hosts", mesh),
        at("runs", "runs", "The runs that this machine remembers", "runs", runs_of_here),
        at("runs/{run}", "run", "One run, or what was asked for", "runs", run),
        at("plans", "plans", "The plans that this machine keeps", "plans", kept_plans),
        at("plans/{digest}", "plan", "One plan, by its digest", "plans", plan),
    )


def _name(name: str) -> str:
    """Return the name of one host. Raise `ConfigError` for what may select several."""
    if not name or any(char in name for char in "*?[],!@:"):
        raise ConfigError(f"{name}: is no name of a host", hint="fleet://inventory lists them")
    return name
