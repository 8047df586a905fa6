"""POSIX shell programs as far as their rules need it: where each function is, and which variables it leaves set.

Variables of sh are global. One that a function assigns stays set for everybody, unless a subshell assigns it: `( … )`,
`$( … )`, a part of a pipeline, or what runs in the background.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.shell_reader import Function, Reader

if TYPE_CHECKING:
    from pathlib import Path


def is_shell(path: Path) -> bool:
    """Whether the file is a shell program."""
    return path.suffix == ".sh" or (path.suffix == "" and path.read_bytes().startswith(b"#!/bin/sh\n"))


def functions(text: str) -> list[Function]:
    """Every function of the program, in order. Raises `UnreadableError`."""
    return Reader(text).program()


def undeclared(text: str) -> list[str]:
    """What is wrong with the comments that say which variables the functions set, a line for each function."""
    return [
        f"{function.name} sets: {' '.join(sorted(function.sets)) or 'nothing'}"
        f"; its comment says: {' '.join(function.declared) or 'nothing'}"
        for function in functions(text)
        if sorted(function.sets) != sorted(function.declared)
    ]
