"""Run the command line with `python -m fleet`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, and exit with its code. Nothing else exits."""
    from fleet.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
