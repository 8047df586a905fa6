"""The table of all tools: what each is called, what it may do, and the set that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleet.errors import ConfigError
from fleet.inventory.words import nearest, shown
from fleet.mcp.changes import Changes
from fleet.mcp.looks import Looks
from fleet.mcp.plans import Plans
from fleet.mcp.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from fleet.mcp.answers import Document
    from fleet.mcp.desk import Desk

    Answering = Callable[..., Coroutine[Any, Any, Document]]

MOST = 15
"""How many tools there may be: agents pay for each with their memory."""
TOOLSETS = ("hosts", "runs", "plans", "changes")


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool, before it is given to an SDK."""

    name: str
    title: str
    toolset: str
    answers: Answering
    reads_only: bool = True
    """Whether it changes nothing: no host, and nothing that this machine keeps but what it saw."""
    destroys: bool = False
    """Whether it replaces what runs somewhere, or takes something away."""
    repeats_well: bool = True
    """Whether a second call with the same arguments changes nothing more."""
    asks_hosts: bool = True
    """Whether it goes beyond this machine."""

    @property
    def description(self) -> str:
        """What it does, in the words of its function: one paragraph a line."""
        lines = (self.answers.__doc__ or "").strip().split("\n\n")
        return "\n".join(" ".join(paragraph.split()) for paragraph in lines)


def all_tools(desk: Callable[[], Desk]) -> tuple[Tool, ...]:
    """Return every tool, for whoever is at the desk when it is called."""
    looks, runs, plans, changes = Looks(desk), Runs(desk), Plans(desk), Changes(desk)
    here: dict[str, Any] = {"asks_hosts": False}
    asks: dict[str, Any] = {"reads_only": False}
    return (
        Tool(name="inventory", title="Hosts of the fleet", toolset="hosts", answers=looks.inventory, **here),
        Tool(name="status", title="What hosts run", toolset="hosts", answers=looks.status),
        Tool(name="health", title="Ask declared checks", toolset="hosts", answers=looks.health),
        Tool(name="history", title="Past changes of hosts", toolset="hosts", answers=looks.history),
        Tool(name="logs", title="Journal of a unit", toolset="hosts", answers=looks.logs),
        Tool(name="drift", title="What nobody declared", toolset="hosts", answers=looks.drift),
        Tool(name="runs", title="Runs from this machine", toolset="runs", answers=runs.runs, **here),
        Tool(name="run", title="One run", toolset="runs", answers=runs.run, **here),
        Tool(name="plans", title="Kept plans", toolset="plans", answers=plans.plans, **here),
        Tool(name="show_plan", title="One plan", toolset="plans", answers=plans.show_plan),
        Tool(name="diff_plan", title="What a plan changes", toolset="plans", answers=plans.diff_plan),
        Tool(name="plan", title="Plan a deployment", toolset="plans", answers=changes.plan, repeats_well=False, **asks),
        Tool(name="deploy", title="Apply a plan", toolset="changes", answers=changes.deploy, destroys=True, **asks),
        Tool(
            name="rollback", title="Go back", toolset="changes", answers=changes.rollback, destroys=True,
            repeats_well=False, **asks,
        ),
        Tool(
            name="withdraw", title="Make a plan worthless", toolset="changes", answers=changes.withdraw, destroys=True,
            **asks,
        ),
    )  # fmt: skip


def offered(tools: Iterable[Tool], toolsets: Iterable[str], *, read_only: bool) -> tuple[Tool, ...]:
    """Return the tools of these sets, or of all if none is named. Those that change something are not in it if it is to
    be `read_only`, whatever the sets say. Raise `ConfigError` for a set that there is not.
    """
    chosen = tuple(toolsets) or TOOLSETS
    for name in chosen:
        if name not in TOOLSETS:
            hint = nearest(name, TOOLSETS) or f"there are {', '.join(TOOLSETS)}"
            raise ConfigError(f"--toolsets: there is no set {shown(name)}", hint=hint.lstrip("; "))
    return tuple(tool for tool in tools if tool.toolset in chosen and (tool.reads_only or not read_only))
