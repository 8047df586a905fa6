"""The profiles that a host has beside its own system: `[hosts.web-1.profiles.alice]` is deployed as `web-1.alice`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleet.inventory import origins, values
from fleet.inventory.drivers import Driver
from fleet.inventory.problems import dotted
from fleet.inventory.words import shown
from fleet.model import HostName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fleet.inventory import Inventory
    from fleet.inventory.problems import Problems
    from fleet.inventory.schema import Host

Raw = dict[str, Any]
OF_HOST = (
    "kind", "address", "port", "user", "jump", "sudo", "system", "host_key", "identity_file", "link", "bandwidth",
    "offline", "deliver_within", "deliver_on_battery", "deliver_metered", "deliver_in_session", "connect_timeout",
    "boot_timeout", "last_resort", "gate", "site", "site_address", "mesh",
)  # fmt: skip
"""What is so of a computer, and of all that is on it."""


def computer(host: Host) -> str:
    """Return the name of the computer that this is on: of the host that it is a profile of, or its own."""
    return host.name.removesuffix(f".{host.profile}") if host.profile else host.name


def computers(inventory: Inventory, hosts: Iterable[Host]) -> tuple[Host, ...]:
    """Return one host for each computer that these are on: what is asked of a whole computer is asked once.

    A profile stands for its computer only where that has no system that `fleet` deploys.
    """
    found: dict[str, Host] = {}
    for host in hosts:
        name = computer(host)
        found.setdefault(name, inventory.hosts.get(HostName(name), host))
    return tuple(found.values())


def expanded(problems: Problems, hosts: Raw, defaults: Raw) -> Raw:
    """Return the tables of the hosts, each followed by one for each of its profiles, in their order.

    A profile comes after its host, and after the profile before it. Problems with where profiles are written are noted;
    what their tables say is not looked at.
    """
    found: Raw = {}
    for name, own in hosts.items():
        if not isinstance(own, dict) or "profiles" not in own:
            found[name] = own
            continue
        rest = {key: value for key, value in own.items() if key != "profiles"}
        before = [name]
        if rest.get("driver") == "none":
            before = []
        else:
            found[name] = rest
        for profile, table in _tables(problems, name, own["profiles"]):
            whole = f"{name}.{profile}"
            if whole in hosts:
                problems.add(f"[{dotted('hosts', name, 'profiles', profile)}]", "", f"{whole} is already a host")
                continue
            problems.name(dotted("hosts", whole), dotted("hosts", name, "profiles", profile))
            found[whole] = _table(name, profile, rest, table, defaults, before)
            before = [whole]
    return found


def _tables(problems: Problems, name: str, profiles: object) -> Iterator[tuple[str, Raw]]:
    """Yield the tables of the profiles that are some, and note what is wrong with the others."""
    place = f"[{dotted('hosts', name)}]"
    if not isinstance(profiles, dict) or not profiles:
        problems.add(place, "profiles", f"found {shown(profiles)}, expected tables: [{place[1:-1]}.profiles.NAME]")
        return
    for profile, table in profiles.items():
        inner = f"[{dotted('hosts', name, 'profiles', profile)}]"
        if not isinstance(table, dict):
            problems.add(inner, "", f"found {shown(table)}, expected a table")
            continue
        try:
            values.profile(profile)
        except ValueError as error:
            problems.add(inner, "", f"a profile's name: {error}")
            continue
        for key in (*OF_HOST, "profile", "profiles"):
            if key in table:
                problems.add(inner, key, f"belongs to the host: {place}" if key in OF_HOST else "unknown key")
        yield profile, {key: value for key, value in table.items() if key not in (*OF_HOST, "profile", "profiles")}


def _table(name: str, profile: str, host: Raw, own: Raw, defaults: Raw, before: list[str]) -> Raw:
    """Return the table of a profile, which is reached as its host is."""
    shared = {key: host[key] for key in (*OF_HOST, "tags") if key in host}
    address = origins.named(host.get("address", defaults.get("address", name)), name)
    after = own.get("after", [])
    ordered = [*before, *after] if isinstance(after, list) else after
    usual = {} if "attr" in own else {"driver": Driver.HOME_MANAGER.value}
    order = {"after": ordered} if ordered else {}
    return {**shared, "address": address, **usual, **own, "profile": profile, **order}


def check_drivers(problems: Problems, hosts: Mapping[HostName, Host]) -> None:
    """Note profiles that their driver cannot have."""
    for name, host in hosts.items():
        table = f"[{dotted('hosts', name)}]"
        if host.driver is Driver.HOME_MANAGER and not host.profile:
            remedy = f"[{dotted('hosts', name, 'profiles')}.USER]"
            problems.add(table, "driver", f"home-manager is for a user: write it into {remedy}")
        elif host.gate and host.driver is not Driver.NIXOS:
            problems.add(table, "gate", f"is a login of NixOS, and there is none for {host.driver}")
        elif host.profile and host.driver in (Driver.NIXOS, Driver.NIX_DARWIN, Driver.SYSTEM_MANAGER):
            problems.add(table, "driver", f"{host.driver} is for a whole host, and no profile beside its system")
        if host.profile and host.secrets:
            problems.add(table, "secrets", "are the host's, since root writes them: write them into its own table")
