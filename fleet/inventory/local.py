"""Addresses: which hosts are the same computer, and which is this very machine (`local`), reached without SSH."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.inventory.problems import dotted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.inventory.problems import Problems
    from fleet.inventory.schema import Host
    from fleet.model import HostName

LOCAL = "local"
KEY_FILE = "/etc/ssh/ssh_host_ed25519_key.pub"


def may_be_here(host: Host) -> bool:
    """Whether the host is reached without SSH on the machine that has its key."""
    return LOCAL in host.address


def remote_addresses(host: Host) -> tuple[str, ...]:
    """Return the addresses at which other machines reach the host, in order."""
    return tuple(address for address in host.address if address != LOCAL)


def named_address(host: Host) -> str:
    """Return the address that an SSH configuration knows the host by: the first remote one, or else its name."""
    return next(iter(remote_addresses(host)), host.name)


def bare_key(host_key: str) -> str:
    """Return the key without its comment."""
    return " ".join(host_key.split()[:2])


def check_local(problems: Problems, hosts: Mapping[HostName, Host]) -> None:
    """Note hosts that no machine can be recognised as, and those that the same machine would be."""
    seen: dict[str, HostName] = {}
    for name, host in hosts.items():
        if not may_be_here(host):
            continue
        table = f"[{dotted('hosts', name)}]"
        if host.host_key is None:
            remedy = f"host_key is missing: write the first two words of {KEY_FILE} there"
            if name == LOCAL:
                remedy += f'; or write address = "{LOCAL}." if that is only a name'
            problems.add(table, "address", f"a machine knows by its host key that it is this {LOCAL} one, and {remedy}")
            continue
        other = seen.setdefault(bare_key(host.host_key), name)
        if other != name:
            problems.add(table, "address", f"the {LOCAL} machine with this host_key is already the host {other}")


def check_addresses(problems: Problems, hosts: Mapping[HostName, Host]) -> None:
    """Note hosts that are the same computer, and the same profile there."""
    seen: dict[tuple[str, int, str | None, str], str] = {}
    for name, host in hosts.items():
        for address in remote_addresses(host):
            place = (address.lower().rstrip("."), host.port or 22, host.jump, host.profile)
            other = seen.setdefault(place, name)
            if other != name:
                where = f"{address} port {host.port or 22}" + (f" behind {host.jump}" if host.jump else "")
                problems.add(f"[{dotted('hosts', name)}]", "address", f"{where} is already the host {other}")
