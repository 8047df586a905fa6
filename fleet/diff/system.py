"""Describe one system, as far as a comparison needs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.model import Closure

UNITS = "systemd/system/"
"""The folder with the units, below `etc`."""


@dataclass(frozen=True, kw_only=True)
class SystemFacts:
    """What a closure consists of. Paths of files are relative to its `etc`."""

    closure: Closure
    paths: Mapping[str, int] = field(default_factory=dict)
    """NAR bytes of each store path of the whole closure."""
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each file below `etc`. For what is too large to read (a file of 1 MiB, a linked tree of more than 256
    files) its store path."""
    wants: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """For each unit the units that its `.wants` and `.requires` folders name."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Store paths of `kernel`, `initrd`, `kernel-modules` and `systemd`, and the text of `kernel-params`."""
    texts: Mapping[str, str | None] = field(default_factory=dict)
    """Contents of the files below `etc` that were read; None for one that is not text, or too long."""

    @property
    def etc(self) -> dict[str, str]:
        """The files that are not system units."""
        return {path: content for path, content in self.files.items() if not path.startswith(UNITS)}

    @property
    def units(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """For each unit the files that define it, its own and its drop-ins, each with its content."""
        units: dict[str, list[tuple[str, str]]] = {}
        for path, content in sorted(self.files.items()):
            folder, _, name = path.removeprefix(UNITS).rpartition("/")
            if path.startswith(UNITS) and (not folder or folder.endswith(".d")):
                unit = folder.removesuffix(".d") or name
                units.setdefault(unit, []).append((path, content))
        return {unit: tuple(files) for unit, files in units.items()}
