"""`make bench`: all cases, a table of medians and ratios, and the same as JSON in `.bench/`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from fleet.errors import FleetError
from tests.bench import report
from tests.bench.bench import Bench
from tests.bench.cases import CASES


def main() -> None:
    """Measures what was asked for, on hosts that are gone afterwards."""
    parser = _parser()
    options = parser.parse_args()
    if unknown := [name for name in options.cases if name not in CASES]:
        parser.error(f"there is no case {', '.join(unknown)}; there are: {', '.join(CASES)}")
    # A fleet that is installed has its bytecode; where this is set a checkout compiles all of it for each command.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the hosts go too
    rows: list[report.Row] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
        bench = Bench(
            folder=Path(folder),
            runs=options.runs,
            hosts=tuple(options.hosts),
            idle=options.idle,
            simulated=options.simulated,
            together=options.together,
        )
        try:
            for name in options.cases or CASES:
                print(f"{name}: {CASES[name].about}", file=sys.stderr, flush=True)
                try:
                    rows += CASES[name].measure(bench)
                except (SystemExit, FleetError) as error:  # what the others measure is worth having
                    if isinstance(error, SystemExit) and isinstance(error.code, int):
                        raise
                    print(f"{name}: not measured: {error}", file=sys.stderr, flush=True)
                    failed.append(name)
        finally:
            bench.down()
    if rows:
        print("\n".join(report.table(rows)))
        print(f"written to {report.keep(rows)}; each ratio is to the best peer of the case", file=sys.stderr)
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


def _parser() -> argparse.ArgumentParser:
    about = "\n".join(f"  {name:10} {case.about}" for name, case in CASES.items())
    parser = argparse.ArgumentParser(
        prog="make bench",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"cases, all of them by default:\n{about}\n\n"
        'PEERS="name=command with {host} and {closure};…" puts other tools beside fleet, docs/bench.md tells how.',
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="see below")
    parser.add_argument("--runs", type=int, default=3, help="measured rounds of each case; one more warms up")
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 4, 8], help="hosts of the cold push")
    parser.add_argument("--together", type=int, default=8, help="hosts of the first deployment and of the bump")
    parser.add_argument("--idle", type=int, default=100, help="lab hosts of the no-op")
    parser.add_argument("--simulated", type=int, default=1000, help="simulated hosts of the no-op")
    return parser


if __name__ == "__main__":
    main()
