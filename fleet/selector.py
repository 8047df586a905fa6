"""Select the hosts that a command is about, and sort them into waves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import ConfigError
from fleet.inventory.matching import Named, matching

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet.inventory import Host, Inventory


def select(inventory: Inventory, selectors: Sequence[str]) -> tuple[Host, ...]:
    """Return the hosts that the selectors select together, in the order of the file.

    Raise `ConfigError` if there are none.
    """
    try:
        names = matching(_named(inventory), selectors)
    except ConfigError as error:
        raise ConfigError(f"{inventory.path}: {error.message}", hint=_hint(inventory)) from None
    return tuple(host for name, host in inventory.hosts.items() if name in names)


def waves(inventory: Inventory, hosts: Iterable[Host]) -> tuple[tuple[Host, ...], ...]:
    """Return the hosts in the order of `[[rollout.waves]]`, each in the first wave that names it, and the rest last."""
    remaining = list(hosts)
    result = []
    for selector in inventory.rollout.waves:
        names = matching(_named(inventory), [selector])
        result.append(tuple(host for host in remaining if host.name in names))
        remaining = [host for host in remaining if host.name not in names]
    return tuple(wave for wave in (*result, tuple(remaining)) if wave)


def _named(inventory: Inventory) -> list[Named]:
    return [Named(host.name, host.kind.value, host.tags) for host in inventory.hosts.values()]


def _hint(inventory: Inventory) -> str:
    names = list(inventory.hosts)
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"hosts: {', '.join(names[:8])}{more}"
