"""Play rounds with a hostile host: `python -m tests.hostile --rounds 1000 --seed 7`. A seed always plays the same."""

from __future__ import annotations

import argparse
import secrets
import sys
import traceback
from pathlib import Path

from tests.hostile.rounds import ROUNDS

MOST_MEMORY = 300
"""MiB that the controller may take in whole runs, whatever a host says. Other kinds measure mostly the game itself."""


def main() -> int:
    """Play, and tell how to play a round again that went wrong. Return 1 if one did."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="of each kind")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    parser.add_argument("--kind", choices=sorted(ROUNDS), action="append")
    asked = parser.parse_args()
    bad = 0
    for number in range(asked.rounds):
        for kind in asked.kind or ROUNDS:
            seed = asked.seed + number
            try:
                ROUNDS[kind](seed)
            except Exception:
                bad += 1
                traceback.print_exc()
                print(f"went wrong: python -m tests.hostile --kind {kind} --rounds 1 --seed {seed}", flush=True)
    # `getrusage` also tells of the process that has started this one.
    memory = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10
    print(f"{asked.rounds} rounds from seed {asked.seed}: {bad} went wrong; {memory} MiB at most")
    return 1 if bad or (asked.kind == ["running"] and memory > MOST_MEMORY) else 0


if __name__ == "__main__":
    sys.exit(main())
