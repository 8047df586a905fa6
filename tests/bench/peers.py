"""Other tools that are measured beside fleet, by templates of their commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.bench.hosts import Hosts

Commands = Callable[["Hosts", str], list[list[str]]]
"""What is run at once to bring a closure to hosts."""


def each(*argv: str) -> Commands:
    """One command for each host; `{host}` and `{closure}` are filled in."""
    return lambda hosts, closure: [
        [word.replace("{host}", name).replace("{closure}", closure) for word in argv] for name in hosts.names
    ]


def peers() -> dict[str, Commands]:
    """Those of `PEERS="name=command with {host} and {closure};…"`, each command a line for a shell."""
    found = {}
    for peer in filter(str.strip, os.environ.get("PEERS", "").split(";")):
        name, separator, command = peer.partition("=")
        if not separator or "{host}" not in command:
            raise SystemExit(f"PEERS: {peer.strip()!r} is not name=command with {{host}} and {{closure}}")
        found[name.strip()] = each("sh", "-c", command)
    return found
