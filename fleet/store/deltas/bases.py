"""Find the paths of a host that are probably like one that it lacks: those of the same package. No I/O happens here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.store.wire import PathInfo

TRIED = 3
"""The most bases that are tried for one path."""
SAME_NAME, OTHER_VERSION, NEW_PACKAGE = 0.01, 0.1, 0.35
"""What remains of a NAR: for a package that was only rebuilt, for one with a security update (0.08 measured over 14
packages of Debian 12), and for one that the host has nothing of, which is only compressed."""
ANNOUNCED = 200
"""Bytes that a path takes whatever its size: hashes cannot be compressed."""
_PACKAGE = re.compile(r"(.+?)(?:-[0-9].*)?$", re.DOTALL)
_STORE_NAME = re.compile(r"[0-9a-z]{32}-[0-9a-zA-Z+._?=-]+")
_HASH = 33
"""Characters of a store name before the package's name: the hash and a dash."""


class Bases:
    """Paths that both the host and the local store have."""

    def __init__(self, there: Iterable[PathInfo] = ()) -> None:
        self.paths: set[str] = set()
        self.is_trusted = True
        """Whether bases are of any use on this host."""
        self._forgotten: set[str] = set()
        self._same: dict[str, list[PathInfo]] = {}
        self._kin: dict[str, list[PathInfo]] = {}
        self.add(there)

    def add(self, there: Iterable[PathInfo]) -> None:
        """Add these paths, except those that were forgotten."""
        for info in there:
            if self.is_trusted and info.path not in self.paths and info.path not in self._forgotten:
                self.paths.add(info.path)
                self._same.setdefault(_name(info.path), []).append(info)
                self._kin.setdefault(package(info.path), []).append(info)

    def like(self, info: PathInfo, most: int = TRIED) -> list[PathInfo]:
        """Return up to `most` paths of the same package, the most similar first.

        If some have exactly the same name, only those are returned: then nothing but the references has changed.
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
        """Never use these paths as bases again: they are not what they should be."""
        self._forgotten |= set(paths)
        self.paths -= self._forgotten

    def give_up(self) -> None:
        """Use no bases any more."""
        self.is_trusted = False
        self.paths.clear()


def estimate(missing: Mapping[str, int], there: Iterable[str]) -> int:
    """Return about how many bytes cross a slow link to a host that lacks `missing` and has `there`.

    `missing` has the NAR size of each path. Nothing is compressed for this: it goes by the names, and by what such
    paths took elsewhere.
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
    """Whether this may be the name of something in a store's folder. Nix refuses questions about anything else."""
    return _STORE_NAME.fullmatch(name) is not None


def package(path: str) -> str:
    """Return the package that the path belongs to, by its name."""
    return _package_of(_name(path))


def _package_of(name: str) -> str:
    """Return the name without its version, which begins at the first dash before a digit, as Nix has it."""
    found = _PACKAGE.match(name)
    return found[1] if found else name


def _output(name: str) -> str:
    """Return the last part of a name unless it is a version: mostly `bin`, `dev` or `man` of a package."""
    last = name.rpartition("-")[2]
    return "" if re.search("[0-9]", last) else last
