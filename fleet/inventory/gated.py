"""Hosts with a gate: what fleet.toml cannot ask of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fleet.inventory.local import LOCAL, may_be_here
from fleet.inventory.problems import dotted, entry_table
from fleet.inventory.schema import Offline, Sudo
from fleet.model import HostName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.inventory.check import Check
    from fleet.inventory.problems import Problems
    from fleet.inventory.schema import Host

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What services.fleet.gate.checks may call a check."""
PORTS = {"http": 80, "https": 443}


def is_planned_for_when_away(host: Host) -> bool:
    """Whether a host gets a part of a plan though it is away: it is to get that later, and only if it is signed."""
    return host.gate and host.offline is Offline.DEFER


def check_gated(problems: Problems, hosts: Mapping[HostName, Host]) -> None:
    """Note what a gate refuses anyhow, where people can still read why."""
    for name, host in hosts.items():
        jump = hosts.get(HostName(host.jump)) if host.jump else None
        table = f"[{dotted('hosts', name)}]"
        if jump is not None and jump.gate:
            remedy = 'log in to it by another account, with a key of its own: jump = "user@host"'
            problems.add(table, "jump", f"{jump.name} has a gate, which forwards to its own checks only; {remedy}")
        if host.gate:
            _check_host(problems, host, table)


def _check_host(problems: Problems, host: Host, table: str) -> None:
    if host.sudo is not Sudo.NONE:
        problems.add(table, "sudo", "a login to a gate runs nothing else than the gate: leave it out, or gate = true")
    if may_be_here(host):
        problems.add(table, "address", f"{LOCAL} is without SSH, and a gate is a login by SSH: give another address")
    if host.secrets:
        remedy = "sops-nix or agenix in its own configuration decrypts them there, where the closure says"
        problems.add(table, "secrets", f"a gate takes no files from elsewhere, which could get round it; {remedy}")
    for number, hook in enumerate(host.hooks, 1):
        if hook.on == "host":
            remedy = 'make it a unit of the host\'s configuration, or let it run here: on = "controller"'
            problems.add(
                entry_table(table, "hooks", number, {"name": hook.name}),
                "on",
                f"a gate runs no commands from elsewhere; {remedy}",
            )
    for number, check in enumerate(host.checks, 1):
        if check.kind == "command" and NAME.fullmatch(check.name) is None:
            problems.add(
                entry_table(table, "checks", number, {}), "name",
                "a gate runs the check of this name in services.fleet.gate.checks: give it a name of letters, digits,"
                " '.', '_' and '-'",
            )  # fmt: skip


def forwarded(checks: Iterable[Check]) -> frozenset[str]:
    """Return the places that these checks ask from the host itself, as sshd's PermitOpen names them."""
    places = set[str]()
    for check in checks:
        if check.from_ == "host" and check.tcp is not None:
            places.add(check.tcp)
        if check.from_ == "host" and check.http is not None:
            url = urlsplit(check.http)
            host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
            places.add(f"{host}:{url.port or PORTS[url.scheme]}")
    return frozenset(places)
