"""What activates the systems of a host: its driver."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Driver(enum.StrEnum):
    """What activates the systems of a host, and sets its profile. docs/drivers.md says what each can hold."""

    NIXOS = "nixos"
    SYSTEM_MANAGER = "system-manager"
    HOME_MANAGER = "home-manager"
    NIX_DARWIN = "nix-darwin"
    GENERIC = "generic"


OUTPUTS = {
    "systemConfigs": Driver.SYSTEM_MANAGER,
    "homeConfigurations": Driver.HOME_MANAGER,
    "darwinConfigurations": Driver.NIX_DARWIN,
    "packages": Driver.GENERIC,
}
"""The outputs of flakes that have what is not for NixOS."""


def recognised(attr: Sequence[str]) -> Driver:
    """Return the driver of what this attribute of a flake has: NixOS, where its output says nothing else."""
    return OUTPUTS.get(attr[0], Driver.NIXOS) if attr else Driver.NIXOS


def default_attribute(
    host: str, driver: Driver = Driver.NIXOS, *, profile: str = "", system: str = "x86_64-linux"
) -> tuple[str, ...]:
    """Return the attribute of a flake that has the closure of a host, or of a profile on it, for this driver."""
    match driver:
        case Driver.SYSTEM_MANAGER:
            return ("systemConfigs", host)
        case Driver.HOME_MANAGER:
            return ("homeConfigurations", f"{profile}@{host.removesuffix(f'.{profile}')}", "activationPackage")
        case Driver.NIX_DARWIN:
            return ("darwinConfigurations", host, "system")
        case Driver.GENERIC:
            return ("packages", system, host)
    return ("nixosConfigurations", host, "config", "system", "build", "toplevel")


def attribute_of(name: str, table: Mapping[str, object]) -> tuple[str, ...]:
    """Return the attribute for the driver that the table of a host names. One that is none is told of later."""
    driver = next((driver for driver in Driver if driver.value == table.get("driver")), Driver.NIXOS)
    profile, system = (str(table.get(key, usual)) for key, usual in (("profile", ""), ("system", "x86_64-linux")))
    return default_attribute(name, driver, profile=profile, system=system)
