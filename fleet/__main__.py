"""`python -m fleet`."""

from __future__ import annotations

import sys


def main() -> None:
    """The command line; the only place that exits."""
    from fleet.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
