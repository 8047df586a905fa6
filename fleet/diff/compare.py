"""Compare two systems. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.diff.agents import AgentChange, agent_files, changed_agents
from fleet.diff.packages import PackageChange, changed_packages
from fleet.diff.patch import Patches
from fleet.diff.units import UnitsDiff, changed_unit_files, compare_units
from fleet.host import obstacles

if TYPE_CHECKING:
    from fleet.diff.system import SystemFacts
    from fleet.model import Closure


@dataclass(frozen=True)
class EtcChange:
    """A file below `/etc` that differs, except for units."""

    path: str
    kind: str
    """`added`, `removed` or `changed`."""
    patch: tuple[str, ...] | None = None
    """The unified diff of a changed file; None if it was not read, is not text, or is too long."""


@dataclass(frozen=True)
class SystemDiff:
    """Everything that differs."""

    old: Closure
    new: Closure
    packages: tuple[PackageChange, ...] = ()
    size: int = 0
    """By how many NAR bytes the closure grows."""
    agents: tuple[AgentChange, ...] = ()
    """The agents whose packages have other versions."""
    units: UnitsDiff = field(default_factory=UnitsDiff)
    etc: tuple[EtcChange, ...] = ()
    reboot: tuple[str, ...] = ()
    """Parts that differ and become live only with a reboot."""

    @property
    def is_empty(self) -> bool:
        """Whether both are the same closure."""
        return self.old == self.new


def compare(old: SystemFacts, new: SystemFacts) -> SystemDiff:
    """Return what differs between the two. With the texts of `needed_texts` it is exact."""
    return SystemDiff(
        old=old.closure,
        new=new.closure,
        packages=changed_packages(_without_itself(old), _without_itself(new)),
        size=sum(new.paths.values()) - sum(old.paths.values()),
        agents=changed_agents(old, new),
        units=compare_units(old, new),
        etc=_changed_files(old, new),
        reboot=(
            *(part for part in obstacles.PARTS if old.parts.get(part) != new.parts.get(part)),
            *_obstacles(old, new),
        ),
    )


def _obstacles(old: SystemFacts, new: SystemFacts) -> tuple[str, ...]:
    def both(part: str) -> tuple[str, str]:
        return old.parts.get(part, ""), new.parts.get(part, "")

    before, after = (obstacles.inhibitors(text) for text in both("switch-inhibitors"))
    driver, new_driver = (obstacles.nvidia_version([modules]) for modules in both("nvidia"))
    return obstacles.between((before, after), both("init-interface-version"), (driver, new_driver))


def needed_texts(old: SystemFacts, new: SystemFacts) -> tuple[str, ...]:
    """Return the files below `etc` whose text `compare` can use. Those of agents come first, then those of units."""
    before, after = old.etc, new.etc
    changed = [path for path in sorted(before.keys() & after.keys()) if before[path] != after[path]]
    agents = agent_files(old, new)
    return (*agents, *sorted(changed_unit_files(old, new)), *(path for path in changed if path not in agents))


def _without_itself(system: SystemFacts) -> dict[str, int]:
    return {path: size for path, size in system.paths.items() if path != system.closure}


def _changed_files(old: SystemFacts, new: SystemFacts) -> tuple[EtcChange, ...]:
    before, after = old.etc, new.etc
    changes, patches = [], Patches()
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            changes.append(EtcChange(path, "removed"))
        elif path not in before:
            changes.append(EtcChange(path, "added"))
        elif before[path] != after[path]:
            one, other = old.texts.get(path), new.texts.get(path)
            patch = patches.of(path, one, other) if one is not None and other is not None else None
            changes.append(EtcChange(path, "changed", patch))
    return tuple(changes)
