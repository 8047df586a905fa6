"""Build the commands that ask the local store what keeps its paths, and that let go what nothing keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.machine import Command

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_LOOK = 600.0
"""Seconds to look at each path of a large store."""
LONGEST_DELETION = 3600.0
"""Seconds to delete what many runs have left."""


def _for_each(words: tuple[str, ...], paths: Iterable[str], timeout: float = LONGEST_LOOK) -> Command:
    stdin = "".join(f"{path}\n" for path in paths).encode()
    return Command(argv=("xargs", "-r", "nix-store", *words), stdin=stdin, timeout=timeout, root=False)


def requisites(paths: Iterable[str]) -> Command:
    """Print the closure of many paths, some of it more than once."""
    return _for_each(("--query", "--requisites"), paths)


def sizes(paths: Iterable[str]) -> Command:
    """Print the NAR size of each path in bytes, a line each."""
    return _for_each(("--query", "--size"), paths)


ROOTS = Command(argv=("nix-store", "--gc", "--print-roots"), timeout=LONGEST_LOOK, root=False)
"""Prints what keeps paths of the store: `LINK -> PATH`."""
DEAD = Command(argv=("nix-store", "--gc", "--print-dead"), timeout=LONGEST_LOOK, root=False)
"""Prints the paths that nothing keeps. Deletes nothing."""


def read_roots(stdout: str) -> list[tuple[str, str]]:
    """Parse what `ROOTS` printed: links, or words such as `{temp:42}`, each with its store path."""
    found = (line.rpartition(" -> ") for line in stdout.splitlines())
    return [(link, path) for link, arrow, path in found if arrow and path.startswith("/nix/store/")]


def delete(paths: Iterable[str]) -> Command:
    """Delete paths that nothing keeps. Fails at one that something does."""
    return _for_each(("--delete",), paths, LONGEST_DELETION)
