"""Which paths that a host has may be like one that it lacks: those of the same package. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TRIED = 3
"""Bases that are tried for one path, at most."""
SAME_NAME, OTHER_VERSION, NEW_PACKAGE = 0.01, 0.1, 0.35
"""What remains of a NAR: of a package that was only built again, of one with a security update (0.08 measured over 14
packages of Debian 12), and of one that the host has nothing of and that is only compressed."""
ANNOUNCED = 200
"""Bytes that a path takes whatever its size: hashes cannot be compressed."""
_PACKAGE = re.compile(r"(.+?)(?:-[0-9].*)?$", re.DOTALL)
_HASH = 33
"""Characters of a store name before the package's name begins: the hash and a dash."""


class Bases:
    """Paths that may serve as a base, by package. Takes NAR bytes per path."""

    def __init__(self, paths: Mapping[str, int]) -> None:
        self._sizes = paths
        self._kin: dict[str, list[str]] = {}
        for path in paths:
            self._kin.setdefault(_package(_name(path)), []).append(path)

    def like(self, path: str, size: int) -> list[str]:
        """The paths of the same package, the one that is most like it first, `TRIED` of them at most.

        Where one has the very same name it is alone: then only what it refers to has changed.
        """
        name = _name(path)
        kin = [other for other in self._kin.get(_package(name), ()) if other != path]
        kin.sort(key=lambda other: (_output(_name(other)) != _output(name), abs(self._sizes[other] - size), other))
        same = [other for other in kin if _name(other) == name]
        return (same or kin)[:TRIED]


def estimate(missing: Mapping[str, int], there: Iterable[str]) -> int:
    """About how many bytes cross a thin link, where the host lacks these paths (NAR bytes each) and has those.

    Before anything is compressed: by the names alone, and by what such paths took elsewhere.
    """
    names = {_name(path) for path in there}
    packages = set(map(_package, names))

    def remains(name: str) -> float:
        if name in names:
            return SAME_NAME
        return OTHER_VERSION if _package(name) in packages else NEW_PACKAGE

    return sum(ANNOUNCED + round(size * remains(_name(path))) for path, size in missing.items())


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1][_HASH:]


def _package(name: str) -> str:
    """As Nix has it: the version begins at the first dash before a digit."""
    found = _PACKAGE.match(name)
    return found[1] if found else name


def _output(name: str) -> str:
    """What comes last in a name, if it is no version: `bin`, `dev` or `man` of a package, mostly."""
    last = name.rpartition("-")[2]
    return "" if re.search("[0-9]", last) else last
