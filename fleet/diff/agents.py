"""Find the agents of services.fleet.agents whose packages have other versions. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.diff.system import SystemFacts

AGENTS = "fleet/agents/"
"""The files that say what agents have, below `etc`."""
MOST = 200
"""Agents of a system, and packages of an agent, that are told at most."""


@dataclass(frozen=True)
class AgentPackage:
    """A package of an agent, of which one has another version than the other system."""

    name: str
    old: str | None
    """The version before; None if the agent had not got it."""
    new: str | None


@dataclass(frozen=True)
class AgentChange:
    """An agent that was added, removed, or has other versions."""

    name: str
    kind: str
    """`added`, `removed` or `changed`."""
    packages: tuple[AgentPackage, ...]


def agent_files(old: SystemFacts, new: SystemFacts) -> list[str]:
    """Return the files below `etc` of agents that differ."""
    before, after = old.etc, new.etc
    paths = sorted(path for path in before.keys() | after.keys() if path.startswith(AGENTS))
    return [path for path in paths if before.get(path) != after.get(path)][:MOST]


def changed_agents(old: SystemFacts, new: SystemFacts) -> tuple[AgentChange, ...]:
    """Return the agents whose packages differ, by name, without those of which only something else differs."""
    changes = []
    for path in agent_files(old, new):
        kind = "added" if path not in old.etc else "removed" if path not in new.etc else "changed"
        before, after = (versions((system.texts.get(path) or "").splitlines()) for system in (old, new))
        names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        packages = tuple(AgentPackage(name, before.get(name), after.get(name)) for name in names)
        if packages or kind != "changed":
            changes.append(AgentChange(path.removeprefix(AGENTS), kind, packages))
    return tuple(changes)


def versions(lines: Iterable[str]) -> Mapping[str, str]:
    """Return the version of each package that lines `package NAME VERSION` name."""
    found: dict[str, str] = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        name, _, version = rest.partition(" ")
        if word == "package" and name and len(found) < MOST:
            found[name] = f"{found[name]}, {version}" if name in found else version
    return found
