"""Other tools that are measured beside fleet, by templates of their commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.bench import flake

if TYPE_CHECKING:
    from tests.bench.hosts import Hosts

Commands = Callable[["Hosts", str], list[list[str]]]
"""What is run at once to bring a closure to hosts. Whatever else it needs is there once this has been asked for."""


def each(*argv: str) -> Commands:
    """One command for each host; `{host}` and `{closure}` are filled in."""
    return lambda hosts, closure: [
        [word.replace("{host}", name).replace("{closure}", closure) for word in argv] for name in hosts.names
    ]


def once(*argv: str) -> Commands:
    """One command for all hosts; `{flake}`, a folder that has the closure for each of them, is filled in."""

    def commands(hosts: Hosts, closure: str) -> list[list[str]]:
        folder = str(flake.written(hosts, closure))
        return [[word.replace("{flake}", folder) for word in argv]]

    return commands


def peers(*, whole: bool = False) -> dict[str, Commands]:
    """Those of `PEERS="name=command with {host} and {closure};…"`, each command a line for a shell.

    Those that are run once, with `{flake}`, do all of a deployment: they are left out unless it is a `whole` one.
    """
    found = {}
    for peer in filter(str.strip, os.environ.get("PEERS", "").split(";")):
        name, separator, command = peer.partition("=")
        if not separator or ("{host}" in command) == ("{flake}" in command):
            raise SystemExit(
                f"PEERS: {peer.strip()!r} is not name=command with {{host}} and {{closure}}, or with {{flake}}"
            )
        if "{host}" in command:
            found[name.strip()] = each("sh", "-c", command)
        elif whole:
            found[name.strip()] = once("sh", "-c", command)
    return found
