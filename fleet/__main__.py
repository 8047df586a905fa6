"""Run the command line with `python -m fleet`."""

from __future__ import annotations

import gc
import os
import sys

LINKER_CACHE = "/etc/ld.so.cache"
"""What `ldconfig` has found: the names and places of the libraries of this machine. NixOS has none."""


def main() -> None:
    """Run the command line, and exit with its code. Nothing else exits."""
    # Few of the many objects of all these modules and connections end before the command does: to look for cycles among
    # them takes a fifth of a short command's time.
    gc.set_threshold(200_000)
    sys.meta_path.insert(0, BeforeAsyncssh())
    _open_what_is_closed()
    from fleet.cli import run

    sys.exit(run(sys.argv[1:]))


def _open_what_is_closed() -> None:
    """Let /dev/null be what is closed of stdin, stdout and stderr (`fleet … >&-`).

    Otherwise the next file or connection would get its number, and whatever is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - as above; for as long as we live


class BeforeAsyncssh:
    """Finds no module, and is told when asyncssh is about to look for liboqs and libnettle (asyncssh 2.24, `crypto/`).

    Where they are not there, Python would start gcc, ld and ldconfig to find that out: 0.1 s of every command.
    """

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if name == "asyncssh.crypto":
            sys.meta_path.remove(self)
            _ask_linker_cache_first()


def _ask_linker_cache_first() -> None:
    """Let `find_library` say at once that a library is not there, where the linker's cache shows that."""
    import ctypes.util

    try:
        with open(LINKER_CACHE, "rb") as file:  # noqa: PTH123 - pathlib takes as long to import as `--help` to say
            known = file.read()
    except OSError:
        return
    if "LD_LIBRARY_PATH" in os.environ:
        return
    find = ctypes.util.find_library

    def find_library(name: str) -> str | None:
        return find(name) if f"lib{name}.".encode() in known else None

    ctypes.util.find_library = find_library


if __name__ == "__main__":
    main()
