"""What the cases share: what was asked for, a folder, and the lab, which is up once a case wants it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.lab import Lab

if TYPE_CHECKING:
    from pathlib import Path

HOSTS = tuple(f"bench-{number}" for number in range(1, 9))


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One run of the bench. `down` has to be called at its end."""

    folder: Path
    """Empty at first, and gone at the end."""
    runs: int
    """Measured rounds of each case; one more warms up."""
    hosts: tuple[int, ...]
    """Hosts of the cold push, one measurement for each number."""
    idle: int = 100
    """Lab hosts of the no-op."""
    together: int = 8
    """Hosts of the first deployment and of the bump."""
    simulated: int = 1000
    """Simulated hosts of the no-op."""

    def lab(self, *hosts: str) -> Lab:
        """The lab, with these hosts beside those that it has; without a name, with as many as `hosts` asks for."""
        return Lab.up(self.folder / "lab", hosts or HOSTS[: max(self.hosts)])

    def down(self) -> None:
        """No host is left, also where `lab` was stopped half way."""
        Lab.find(self.folder / "lab").down()
