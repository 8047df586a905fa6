"""Find the packages that differ, grouped as `nix store diff-closures` groups them. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOTICEABLE = 8 * 1024
"""By how many bytes a package of the same version must grow or shrink to be listed, as in Nix."""
_OUTPUTS = "bin|data|debug|dev|devdoc|dist|doc|getent|include|info|lib|libgcc|locale|man|out|static|terminfo"
_STORE_NAME = re.compile(r"[0-9a-z]{32}-")
_OUTPUT = re.compile(rf"-(?:{_OUTPUTS})$")
_VERSION = re.compile(r"-(?=[0-9])")


@dataclass(frozen=True)
class PackageChange:
    """A package that was added, removed or changed."""

    name: str
    old: tuple[str, ...]
    """The versions before; empty if it was not there. A package without a version has the version `""`."""
    new: tuple[str, ...]
    size: int
    """By how many NAR bytes all of its paths together grow."""


def package_name(path: str) -> tuple[str, str]:
    """Return name and version: a version begins at the first dash before a digit; outputs belong to their package.

    >>> package_name("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nginx-1.28.0-doc")
    ('nginx', '1.28.0')
    """
    base = path.rsplit("/", 1)[-1]
    if not _STORE_NAME.match(base):
        return base, ""
    name, *version = _VERSION.split(_OUTPUT.sub("", base[33:]), maxsplit=1)
    return name, "".join(version)


def changed_packages(old: Mapping[str, int], new: Mapping[str, int]) -> tuple[PackageChange, ...]:
    """Return the packages with other versions or of noticeably other size, by name.

    Arguments are NAR bytes per path.
    """
    before, after = _grouped(old), _grouped(new)
    changes = (
        PackageChange(name, _versions(before, name), _versions(after, name), _size(after, name) - _size(before, name))
        for name in sorted(before.keys() | after.keys(), key=str.lower)
    )
    return tuple(filter(_is_worth_telling, changes))


def _is_worth_telling(change: PackageChange) -> bool:
    """Whether to list the change.

    Nix makes hundreds of small paths without a version (unit files, scripts), which `units` and `etc` cover.
    """
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
