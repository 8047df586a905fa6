"""`make bench`: all cases, a table of medians and ratios, and the same as JSON in `.bench/`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.lab import Lab
from tests.bench import push, revert, start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.push import Row

CASES = ("start", "revert", "cold", "update")
HOSTS = tuple(f"bench-{number}" for number in range(1, 9))


def table(rows: Sequence[Row]) -> list[str]:
    """One line for each tool in each case. Ratios are to the best peer of the case."""
    lines = [f"{'case':28}{'tool':24}{'wall':>9}{'ratio':>7}{'CPU/GB/host':>13}{'ratio':>7}{'peak':>10}"]
    for row in rows:
        peers = [other for other in rows if other.case == row.case and not other.is_ours]
        wall = row.taken.wall / min(peer.taken.wall for peer in peers)
        best = min(peer.cpu_per_gb for peer in peers)
        cpu = f"{row.cpu_per_gb:11.2f} s{row.cpu_per_gb / best:7.2f}" if row.taken.cpu and best else " " * 20
        peak = f"{row.taken.memory >> 20:6} MiB" if row.taken.memory else ""
        lines.append(f"{row.case:28}{row.tool:24}{row.taken.wall:7.2f} s{wall:7.2f}{cpu}{peak:>10}")
    return lines


def main() -> None:
    """Measures what was asked for, on lab hosts that are gone afterwards."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"some of {', '.join(CASES)}; default: all")
    parser.add_argument("--runs", type=int, default=3, help="measured rounds of each push; one more warms up")
    parser.add_argument("--hosts", type=int, nargs="*", default=[1, 4, 8], help="hosts of the cold push")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the hosts go too
    cases = options.cases or CASES
    rows: list[Row] = []
    if "start" in cases:
        start.main()
    if "revert" in cases:
        revert.main()
    if {"cold", "update"} & set(cases):
        with tempfile.TemporaryDirectory(prefix="fleet-bench-") as name:
            folder = Path(name)
            lab = Lab.find(folder / "lab")
            try:
                lab = Lab.up(folder / "lab", HOSTS[: max(options.hosts)])
                if "cold" in cases:
                    rows += push.cold(lab, folder, runs=options.runs, counts=options.hosts)
                if "update" in cases:
                    rows += push.update(lab, folder, runs=options.runs)
            finally:
                lab.down()
    if rows:
        print("\n".join(table(rows)))
        _keep(rows)


def _keep(rows: Sequence[Row]) -> None:
    folder = Path(os.environ.get("BENCH_DIR", ".bench"))
    folder.mkdir(exist_ok=True)
    load = os.getloadavg()[0]
    document = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processors": os.cpu_count(),
        "load_at_end": load,
        "rows": [push.as_json(row) for row in rows],
    }
    file = folder / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.json"
    file.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written to {file}; ratios are to the best peer of the case", file=sys.stderr)


if __name__ == "__main__":
    main()
