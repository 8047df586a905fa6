"""Which paths that a host has may be like one that it lacks: those of the same package. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.store.wire import PathInfo

TRIED = 3
"""Bases that are tried for one path, at most."""
SAME_NAME, OTHER_VERSION, NEW_PACKAGE = 0.01, 0.1, 0.35
"""What remains of a NAR: of a package that was only built again, of one with a security update (0.08 measured over 14
packages of Debian 12), and of one that the host has nothing of and that is only compressed."""
ANNOUNCED = 200
"""Bytes that a path takes whatever its size: hashes cannot be compressed."""
_PACKAGE = re.compile(r"(.+?)(?:-[0-9].*)?$", re.DOTALL)
_STORE_NAME = re.compile(r"[0-9a-z]{32}-[0-9a-zA-Z+._?=-]+")
_HASH = 33
"""Characters of a store name before the package's name begins: the hash and a dash."""


class Bases:
    """Paths that both the host and the local store have."""

    def __init__(self, there: Iterable[PathInfo] = ()) -> None:
        self.paths: set[str] = set()
        self.is_trusted = True
        """Whether there is any use in bases on this host."""
        self._forgotten: set[str] = set()
        self._same: dict[str, list[PathInfo]] = {}
        self._kin: dict[str, list[PathInfo]] = {}
        self.add(there)

    def add(self, there: Iterable[PathInfo]) -> None:
        """These paths too, but for what was forgotten."""
        for info in there:
            if self.is_trusted and info.path not in self.paths and info.path not in self._forgotten:
                self.paths.add(info.path)
                self._same.setdefault(_name(info.path), []).append(info)
                self._kin.setdefault(package(info.path), []).append(info)

    def like(self, info: PathInfo, most: int = TRIED) -> list[PathInfo]:
        """The paths of the same package, the one that is most like it first, so many of them at most.

        Where some have the very same name no others count: then only what it refers to has changed.
        """
        name = _name(info.path)
        same = [other for other in self._same.get(name, ()) if other.path in self.paths]
        kin = same or [other for other in self._kin.get(package(info.path), ()) if other.path in self.paths]

        def unlike(other: PathInfo) -> tuple[bool, int, str]:
            return _output(_name(other.path)) != _output(name), abs(other.nar_size - info.nar_size), other.path

        return sorted(kin, key=unlike)[:most]

    def is_promising(self, info: PathInfo) -> bool:
        """Whether one of them is at least half as large as the path: a smaller one cannot have most of it."""
        return any(2 * other.nar_size >= info.nar_size for other in self.like(info))

    def forget(self, paths: Iterable[str]) -> None:
        """These are not what they should be: they are no bases any more."""
        self._forgotten |= set(paths)
        self.paths -= self._forgotten

    def give_up(self) -> None:
        """Nothing is a base any more."""
        self.is_trusted = False
        self.paths.clear()


def estimate(missing: Mapping[str, int], there: Iterable[str]) -> int:
    """About how many bytes cross a thin link, where the host lacks these paths (NAR bytes each) and has those.

    Before anything is compressed: by the names alone, and by what such paths took elsewhere.
    """
    names = {_name(path) for path in there}
    packages = set(map(_package_of, names))

    def remains(name: str) -> float:
        if name in names:
            return SAME_NAME
        return OTHER_VERSION if _package_of(name) in packages else NEW_PACKAGE

    return sum(ANNOUNCED + round(size * remains(_name(path))) for path, size in missing.items())


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1][_HASH:]


def is_store_path(name: str) -> bool:
    """Whether this may be what is in a store's folder: Nix refuses questions about anything else."""
    return _STORE_NAME.fullmatch(name) is not None


def package(path: str) -> str:
    """The package that the path belongs to, by its name."""
    return _package_of(_name(path))


def _package_of(name: str) -> str:
    """As Nix has it: the version begins at the first dash before a digit."""
    found = _PACKAGE.match(name)
    return found[1] if found else name


def _output(name: str) -> str:
    """What comes last in a name, if it is no version: `bin`, `dev` or `man` of a package, mostly."""
    last = name.rpartition("-")[2]
    return "" if re.search("[0-9]", last) else last
