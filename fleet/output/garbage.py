"""Show what hosts have that nobody needs, and what went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.output.format import counted, human_bytes, one_line
from fleet.output.table import table
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

HEADERS = ("host", "generations that go", "that stay", "store paths", "frees", "free now")
STOPPED = {
    "time": "its time is over",
    "deployment": "somebody deploys to it",
    "push": "somebody pushes to it",
}
"""Why a collection ended early."""


def garbage_lines(rows: Sequence[Mapping[str, Any]], *, is_terminal: bool = False) -> list[str]:
    """Return a table of hosts as `garbage_documents.garbage` describes them, but those that could not be asked."""
    cells = [_cells(row) for row in rows if row["error"] is None]
    return table(HEADERS, cells, is_terminal=is_terminal).splitlines() if cells else []


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    goes = [str(generation["number"]) for generation in row["goes"]]
    stays = [f"{one['number']} ({', '.join(one['why']).replace('_', ' ')})" for one in row["stays"]]
    go = f"none: {row['held']}" if row["held"] else listed(goes) or "none"
    paths, size = str(row["paths"]), human_bytes(row["bytes"])
    return row["name"], go, listed(stays, most=8) or "none", paths, size, human_bytes(row["nix_free"])


def freed_line(row: Mapping[str, Any]) -> str:
    """Return what went from one host, as `garbage_documents.garbage` describes it."""
    freed = row["freed"]
    size = "" if freed["bytes"] is None else f"{human_bytes(freed['bytes'])}: "
    numbers = [str(number) for number in freed["generations"]]
    generations = f", generation{'s' * (len(numbers) > 1)} {listed(numbers)}" if numbers else ""
    stopped = ""
    if freed["stopped"]:
        stopped = f"; not all, since {STOPPED.get(freed['stopped'], freed['stopped'])}: fleet gc again takes the rest"
    return one_line(f"{row['name']}: freed {size}{counted(freed['paths'], 'store path')}{generations}{stopped}")
