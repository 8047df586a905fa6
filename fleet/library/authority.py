"""Find out who acts, and what principals.toml and policy.toml of a fleet say. Neither has to be there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.library.tools import user

if TYPE_CHECKING:
    from fleet.inventory import Inventory
    from fleet.policy import Actor, Policy, Principals

FILES = ("principals.toml", "policy.toml")


@dataclass(frozen=True)
class Authority:
    """Both files, as far as they are there."""

    principals: Principals | None
    policy: Policy | None


def authority_of(fleet: Inventory) -> Authority | None:
    """Return what the files beside fleet.toml say; None if there is neither.

    Raise `ConfigError` with everything that is wrong with one of them.
    """
    folder = fleet.path.parent
    if not any(os.path.lexists(folder / name) for name in FILES):
        return None
    from fleet.policy import principals, schema  # whoever is alone has none of this

    people = principals.load(folder)
    return Authority(people, schema.load(fleet, people))


def who_acts(fleet: Inventory, claimed: str = "") -> Actor | None:
    """Return who this process acts as; None for the local user, where nothing says otherwise.

    It has `claimed` to be that principal, or else in its environment. Raise `ConfigError` if principals.toml is wrong,
    or the process claims to be more than its user is.
    """
    claimed = claimed or os.environ.get("FLEET_PRINCIPAL", "")
    if not claimed and not os.path.lexists(fleet.path.parent / FILES[0]):
        return None
    from fleet.policy import principals  # whoever is alone has none of this

    return principals.acting(principals.load(fleet.path.parent), user(), claimed)
