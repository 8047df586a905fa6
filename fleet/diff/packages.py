"""Which packages differ, grouped as `nix store diff-closures` does. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOTICEABLE = 8 * 1024
"""Bytes by which a package must grow or shrink to be listed when its version is the same, as in Nix."""
_OUTPUTS = "bin|data|debug|dev|devdoc|dist|doc|getent|include|info|lib|libgcc|locale|man|out|static|terminfo"
_STORE_NAME = re.compile(rf"^[0-9a-z]{{32}}-(.*?)(?:-([0-9].*?))?(?:-(?:{_OUTPUTS}))?$")


@dataclass(frozen=True)
class PackageChange:
    """A package that was added, removed or changed."""

    name: str
    old: tuple[str, ...]
    """Versions before; empty if it was not there. A package without a version has the version `""`."""
    new: tuple[str, ...]
    size: int
    """NAR bytes more, or less, in all its paths."""


def package_name(path: str) -> tuple[str, str]:
    """Name and version: the version begins at the first dash before a digit; outputs belong to their package.

    >>> package_name("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nginx-1.28.0-doc")
    ('nginx', '1.28.0')
    """
    base = path.rsplit("/", 1)[-1]
    found = _STORE_NAME.match(base)
    return (found[1], found[2] or "") if found else (base, "")


def changed_packages(old: Mapping[str, int], new: Mapping[str, int]) -> tuple[PackageChange, ...]:
    """Packages with other versions, or of noticeably other size, by name. Takes NAR bytes per path."""
    before, after = _grouped(old), _grouped(new)
    changes = (
        PackageChange(name, _versions(before, name), _versions(after, name), _size(after, name) - _size(before, name))
        for name in sorted(before.keys() | after.keys(), key=str.lower)
    )
    return tuple(filter(_is_worth_telling, changes))


def _is_worth_telling(change: PackageChange) -> bool:
    """Nix makes hundreds of small unversioned paths (unit files, scripts): units and etc tell those."""
    has_version = any(change.old) or any(change.new)
    return abs(change.size) >= _NOTICEABLE or (has_version and change.old != change.new)


def _grouped(paths: Mapping[str, int]) -> dict[str, list[tuple[str, int]]]:
    groups: dict[str, list[tuple[str, int]]] = {}
    for path, size in paths.items():
        name, version = package_name(path)
        groups.setdefault(name, []).append((version, size))
    return groups


def _versions(groups: dict[str, list[tuple[str, int]]], name: str) -> tuple[str, ...]:
    return tuple(sorted({version for version, _ in groups.get(name, ())}, key=_natural))


def _size(groups: dict[str, list[tuple[str, int]]], name: str) -> int:
    return sum(size for _, size in groups.get(name, ()))


def _natural(version: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.findall(r"\d+|\D+", version)]
