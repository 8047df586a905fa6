"""Read what a host says of the garbage that it has, and of its collection. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.host.answers import one
from fleet.model import Closure
from fleet.text import plain_text, whole_number

if TYPE_CHECKING:
    from fleet.host.answers import Lines


@dataclass(frozen=True, kw_only=True)
class Stays:
    """A generation that stays."""

    number: int
    closure: Closure
    why: tuple[str, ...]
    """`newest`, `running`, `booted`, `profile`, `boots_next`, `proven` (last), `previous` (a rollback goes there),
    `staged`, `pending` (of a run under way), `held` (since none may go)."""


@dataclass(frozen=True, kw_only=True)
class Goes:
    """A generation that nobody needs."""

    number: int
    closure: Closure


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """What a host has that nobody needs, where its newest `keep` generations stay. Sizes are in bytes."""

    keep: int
    held: str = ""
    """Why no generation may go. Empty if some may."""
    stays: tuple[Stays, ...] = ()
    """The newest first, as in `goes`."""
    goes: tuple[Goes, ...] = ()
    paths: int = 0
    """How many store paths nothing needs when these are gone."""
    bytes: int = 0
    """The size of their contents. What is freed differs a little: a disk has blocks, and hard links."""
    largest: tuple[tuple[str, int], ...] = ()
    """The largest of them, each with its size."""
    nix_free: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to collect."""
        return not self.goes and not self.paths


@dataclass(frozen=True, kw_only=True)
class Freed:
    """What was taken from a host."""

    generations: tuple[int, ...] = ()
    paths: int = 0
    bytes: int | None = None
    """None if Nix has not said it."""
    stopped: str = ""
    """Why the collection ended early: `time`, `deployment` or `push`. Empty if it did not."""


def garbage(lines: Lines) -> Garbage:
    """Return the garbage in an answer to `garbage`."""
    return Garbage(
        keep=whole_number(one(lines, "keep")),
        held=plain_text(one(lines, "held")),
        stays=tuple(map(_stays, lines.get("stays", ()))),
        goes=tuple(map(_goes, lines.get("goes", ()))),
        paths=whole_number(one(lines, "paths")),
        bytes=whole_number(one(lines, "bytes")),
        largest=tuple((path, whole_number(size)) for size, _, path in (_words(line) for line in lines.get("path", ()))),
        nix_free=whole_number(one(lines, "nix_free")),
    )


def deleted(lines: Lines) -> tuple[int, ...]:
    """Return the generations in an answer to `prune`, which were deleted."""
    return tuple(map(whole_number, lines.get("deleted", ())))


def freed(lines: Lines, generations: tuple[int, ...]) -> Freed:
    """Return what an answer to `collect` says was collected, after these generations had gone."""
    return Freed(
        generations=generations,
        paths=whole_number(one(lines, "collected")),
        bytes=_size(one(lines, "freed")),
        stopped=plain_text(one(lines, "stopped")),
    )


def progress(line: str) -> int | None:
    """Return how many store paths are gone by now, as a line of stderr of `collect` says; None if it says that not."""
    found = re.fullmatch(r"collected ([0-9]{1,9})", line)
    return int(found[1]) if found else None


def _words(line: str) -> tuple[str, str, str]:
    first, separator, rest = line.partition(" ")
    return first, separator, plain_text(rest)


def _stays(line: str) -> Stays:
    number, _, rest = _words(line)
    closure, _, why = rest.partition(" ")
    return Stays(number=whole_number(number), closure=Closure(closure), why=tuple(filter(None, why.split(","))))


def _goes(line: str) -> Goes:
    number, _, closure = _words(line)
    return Goes(number=whole_number(number), closure=Closure(closure))


_UNITS = {"bytes": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def _size(text: str) -> int | None:
    """Return the size that Nix says, such as `12.34 MiB` (libutil: showBytes), in bytes; None for anything else."""
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) (bytes|[KMGT]?i?B)", text.strip())
    return round(float(found[1]) * _UNITS[found[2]]) if found and found[2] in _UNITS else None
