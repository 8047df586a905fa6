"""Select the hosts that a command is about, and sort them into waves."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fleet.errors import ConfigError
from fleet.inventory.matching import matching, named_parts
from fleet.inventory.rollouts import in_order
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet.inventory import Host, Inventory
    from fleet.model import HostName


class Wave(NamedTuple):
    """Hosts that go together."""

    hosts: tuple[HostName, ...]
    soak: float
    """Seconds for which the hosts of `of` are watched, all together, after the last of them has ended."""
    of: int
    """The wave of fleet.toml that they are from, from 1."""


def select(inventory: Inventory, selectors: Sequence[str]) -> tuple[Host, ...]:
    """Return the hosts that the selectors select together, in the order of the file.

    Raise `ConfigError` if there are none.
    """
    try:
        names = matching(named_parts(inventory.hosts.values()), selectors)
    except ConfigError as error:
        raise ConfigError(f"{inventory.path}: {error.message}", hint=_hint(inventory)) from None
    return tuple(host for name, host in inventory.hosts.items() if name in names)


def waves(inventory: Inventory, hosts: Iterable[Host]) -> tuple[Wave, ...]:
    """Return the waves that these hosts go in, in the order of `[[rollout.waves]]`.

    Each host is in the first wave that names it, and the rest are last. Where some come after others of the same wave,
    the wave is as many as that takes, and the soak comes after the last of them.
    """
    remaining = list(hosts)
    after = {host.name: host.after for host in remaining}
    found: list[Wave] = []
    for number, wave in enumerate((*inventory.rollout.waves, None), 1):
        names = matching(named_parts(inventory.hosts.values()), [wave.hosts]) if wave else after.keys()
        groups = in_order([host.name for host in remaining if host.name in names], after)
        found += [Wave(tuple(group), wave.soak if wave else 0.0, number) for group in groups]
        remaining = [host for host in remaining if host.name not in names]
    return tuple(found)


def _hint(inventory: Inventory) -> str:
    tags = sorted({f"@{tag}" for host in inventory.hosts.values() for tag in host.tags})
    told = f"hosts: {listed(list(inventory.hosts), most=8)}"
    return f"{told}; tags: {listed(tags, most=8)}" if tags else told
