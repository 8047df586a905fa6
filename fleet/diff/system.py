"""One system, as far as a comparison needs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.model import Closure

UNITS = "systemd/system/"
"""Where the units are, below `etc`."""


@dataclass(frozen=True, kw_only=True)
class SystemFacts:
    """What a closure consists of. Paths of files are relative to its `etc`."""

    closure: Closure
    paths: Mapping[str, int] = field(default_factory=dict)
    """Store path to NAR bytes, of the whole closure."""
    files: Mapping[str, str] = field(default_factory=dict)
    """File below `etc` to its SHA-256; what is too large to read (a file of 1 MiB, a linked tree of more than
    256 files) to its store path."""
    wants: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Unit to the units that its `.wants` and `.requires` folders name."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """`kernel`, `initrd`, `kernel-modules` and `systemd` to store paths, `kernel-params` to its text."""
    texts: Mapping[str, str | None] = field(default_factory=dict)
    """Contents of files below `etc`, as far as they were read; None for one that is not text, or too long."""

    @property
    def etc(self) -> dict[str, str]:
        """The files that are no system units."""
        return {path: content for path, content in self.files.items() if not path.startswith(UNITS)}

    @property
    def units(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """Unit to the files that define it, its own and its drop-ins, each with its content."""
        units: dict[str, tuple[tuple[str, str], ...]] = {}
        for path, content in sorted(self.files.items()):
            folder, _, name = path.removeprefix(UNITS).rpartition("/")
            if path.startswith(UNITS) and (not folder or folder.endswith(".d")):
                unit = folder.removesuffix(".d") or name
                units[unit] = (*units.get(unit, ()), (path, content))
        return units
