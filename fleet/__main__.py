"""Run the command line with `python -m fleet`."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line, and exit with its code. Nothing else exits."""
    # Few of the many objects of all these modules and connections end before the command does: to look for cycles among
    # them takes a fifth of a short command's time.
    gc.set_threshold(50_000)
    from fleet.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
