"""What every command that knows hosts begins with: the inventory, the selection, and how to log in."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.inventory import Host, Inventory
    from fleet.machine.login import Logins
    from fleet.machine.ssh import Secret

PASSWORD_VARIABLE = "FLEET_SUDO_PASSWORD"


def open_inventory(file: Path | None) -> Inventory:
    """The inventory that the command is about."""
    from fleet import inventory

    return inventory.load(file if file is not None else _nearest())


def _nearest() -> Path:
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "fleet.toml").is_file():
            return folder / "fleet.toml"
    return Path("fleet.toml")


def choose(inventory: Inventory, selectors: Sequence[str], *, everything: bool) -> tuple[Host, ...]:
    """The hosts that a changing command is about: they have to be named, or `--all`."""
    from fleet import selector

    if everything and selectors:
        raise ConfigError("--all and a selector: give one of them")
    if not everything and not selectors:
        raise ConfigError("no hosts were named", hint="name hosts, @tags or kind:KIND, or say --all")
    return tuple(inventory.hosts.values()) if everything else selector.select(inventory, selectors)


def choose_or_all(inventory: Inventory, selectors: Sequence[str]) -> tuple[Host, ...]:
    """The hosts that a reading command is about."""
    return choose(inventory, selectors, everything=not selectors)


def logins(inventory: Inventory, hosts: Sequence[Host]) -> Logins:
    """How to reach the hosts. The sudo password, if one is needed, has been asked for once."""
    from fleet.inventory import Sudo
    from fleet.machine.login import Logins

    asking = [host for host in hosts if host.sudo is Sudo.PASSWORD]
    if not asking:
        return Logins(inventory.hosts)
    secret = _sudo_password(asking)
    return Logins(inventory.hosts, {host.name: secret for host in asking})


def _sudo_password(asking: Sequence[Host]) -> Secret:
    import click

    from fleet.machine.ssh import Secret

    given = os.environ.pop(PASSWORD_VARIABLE, None)  # Nix, git and ssh's own helpers need not know it
    if given is not None:
        return Secret(given)
    names = ", ".join(host.name for host in asking)
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{names}: sudo needs a password, and there is no terminal to ask on", hint=f"set {PASSWORD_VARIABLE}"
        )
    return Secret(click.prompt(f"sudo password for {names}", hide_input=True, err=True))


def require_consent(hosts: Sequence[Host], *, yes: bool) -> None:
    """Raises where several hosts would be changed and nobody can be asked."""
    if len(hosts) > 1 and not yes and not sys.stdin.isatty():
        raise ConfigError(
            f"{len(hosts)} hosts would be changed, and there is no terminal to ask on",
            hint="say --yes if that is meant",
        )
