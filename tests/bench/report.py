"""What was measured: rows of one case and one tool each, as a table for people and as JSON for scripts."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.bench.measure import Taken


@dataclass(frozen=True)
class Row:
    """One tool in one case: medians over its runs."""

    case: str
    tool: str
    """Ours begin with `fleet`; every other one is a peer."""
    taken: Taken
    runs: int
    hosts: int
    nar_bytes: int = 0
    """NAR bytes that each host lacked; 0 where nothing is pushed."""
    relayed_bytes: int = 0
    """Bytes that a relay counted, without what the network adds."""

    @property
    def wire_bytes(self) -> int:
        """Bytes that crossed the links to all hosts; 0 where nobody counted."""
        return self.relayed_bytes or self.taken.wire

    @property
    def is_ours(self) -> bool:
        """Whether it is not a peer."""
        return self.tool.startswith("fleet")

    @property
    def cpu_per_gb(self) -> float:
        """Processor seconds here for each GB (10^9 bytes of NAR) and host; 0 where nothing is pushed."""
        return self.taken.cpu / (self.nar_bytes / 1e9) / self.hosts if self.nar_bytes else 0.0


HEADERS = (
    "case", "tool", "wall", "ratio", "CPU", "ratio", "CPU/GB/host", "peak", "wire", "ratio", "hosts' CPU", "ratio",
    "processes", "connections",
)  # fmt: skip


def table(rows: Sequence[Row]) -> list[str]:
    """One line for each tool in each case. Each ratio is to the best peer of the case in that column."""
    lines = [HEADERS, *(_cells(row, [one for one in rows if one.case == row.case and not one.is_ours]) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [at for at, column in enumerate(zip(*lines[1:], strict=True)) if any(column)]
    return [
        "  ".join(line[at].ljust(widths[at]) if at < 2 else line[at].rjust(widths[at]) for at in shown).rstrip()
        for line in lines
    ]


def _cells(row: Row, peers: Sequence[Row]) -> tuple[str, ...]:
    taken = row.taken
    return (
        row.case,
        row.tool,
        _seconds(taken.wall),
        _ratio(taken.wall, (peer.taken.wall for peer in peers)),
        _seconds(taken.cpu),
        _ratio(taken.cpu, (peer.taken.cpu for peer in peers)),
        _seconds(row.cpu_per_gb),
        f"{taken.memory / (1 << 20):.0f} MiB" if taken.memory else "",
        f"{row.wire_bytes / 1e6:.2f} MB" if row.wire_bytes else "",
        _ratio(row.wire_bytes, (peer.wire_bytes for peer in peers)),
        _seconds(taken.hosts_cpu),
        _ratio(taken.hosts_cpu, (peer.taken.hosts_cpu for peer in peers)),
        str(taken.processes or ""),
        str(taken.connections or ""),
    )


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms" if value else ""


def _ratio(value: float, peers: Iterable[float]) -> str:
    best = min(filter(None, peers), default=0)
    return f"{value / best:.2f}" if value and best else ""


def as_json(row: Row) -> Mapping[str, object]:
    """The row for scripts."""
    return {
        "case": row.case,
        "tool": row.tool,
        "hosts": row.hosts,
        "nar_bytes": row.nar_bytes,
        "wire_bytes": row.wire_bytes,
        "runs": row.runs,
        "wall_seconds": round(row.taken.wall, 4),
        "cpu_seconds": round(row.taken.cpu, 4),
        "cpu_seconds_per_gb_and_host": round(row.cpu_per_gb, 4),
        "peak_bytes": row.taken.memory,
        "hosts_cpu_seconds": round(row.taken.hosts_cpu, 4),
        "processes": row.taken.processes,
        "connections": row.taken.connections,
    }


def keep(rows: Sequence[Row]) -> Path:
    """The rows are in this file, with what is known of the machine. `BENCH_DIR` says in which folder."""
    folder = Path(os.environ.get("BENCH_DIR", ".bench"))
    folder.mkdir(exist_ok=True)
    document = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processors": os.cpu_count(),
        "load_at_end": os.getloadavg()[0],
        "rows": [as_json(row) for row in rows],
    }
    file = folder / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.json"
    file.write_text(json.dumps(document, indent=1) + "\n")
    return file
