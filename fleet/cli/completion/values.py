"""What may stand in the place of hosts, runs, generations and plans.

It must be quick, and is only a help: fleet.toml is read with Python's own reader and not checked, nothing is asked of
any host, and where something cannot be read there is nothing to complete.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.shell_completion import CompletionItem

from fleet.files import read_file, state_folder
from fleet.model import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from click import Context

LARGEST = 16 << 20
"""The most bytes of a fleet.toml that is read for this."""
MOST_RUNS = 50
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What a name must be: a shell might expand anything else."""
_RUN = re.compile(RUN_ID)


def selectors(context: Context, incomplete: str) -> list[CompletionItem[str]]:
    """Return the hosts, tags and kinds that the last part of a selector may become: `!`, and commas before it, stay."""
    return list(_selectors(_fleet(context), incomplete))


def _selectors(fleet: dict[str, Any], incomplete: str) -> Iterator[CompletionItem[str]]:
    head, comma, last = incomplete.rpartition(",")
    bang = "!" if last.startswith("!") else ""
    hosts = _hosts(fleet)
    kinds = Counter(str(_key(fleet, host, "kind") or "server") for host in hosts.values())
    tags = Counter(tag for host in hosts.values() for tag in _tags(fleet, host))
    known = {name: str(_key(fleet, host, "kind") or "server") for name, host in hosts.items()}
    known |= {f"@{tag}": _count(tags[tag]) for tag in sorted(tags)}
    known |= {f"kind:{kind}": _count(kinds[kind]) for kind in sorted(kinds) if _SAFE.fullmatch(kind)}
    for word, what in known.items():
        if word.startswith(last.removeprefix("!")) and word not in head.split(","):
            yield CompletionItem(f"{head}{comma}{bang}{word}", help=what)


def host(context: Context, incomplete: str) -> list[CompletionItem[str]]:
    """Return the hosts that a word may become."""
    fleet = _fleet(context)
    return [
        CompletionItem(name, help=str(_key(fleet, host, "kind") or "server"))
        for name, host in _hosts(fleet).items()
        if name.startswith(incomplete)
    ]


def run(context: Context, incomplete: str) -> list[CompletionItem[str]]:
    """Return the newest runs that this machine remembers."""
    try:
        names = [path.name for path in (state_folder(_name(context)) / "runs").iterdir()]
    except OSError:
        return []
    newest = sorted((name for name in names if _RUN.fullmatch(name) and name.startswith(incomplete)), reverse=True)
    return [CompletionItem(name) for name in newest[:MOST_RUNS]]


def generation(context: Context, incomplete: str) -> list[CompletionItem[str]]:
    """Return the generations of the hosts that are named, as `fleet generations` has listed them last."""
    from fleet.library.listed import listed

    known = listed(_name(context))
    # Where the flag has no value yet, click leaves the hosts among the words that nobody has taken.
    asked: Sequence[str] = (*(context.params.get("selectors") or ()), *context.args)
    hosts = [name for name in known if name in asked] or list(known)
    numbers = sorted({number for name in hosts for number in known[name]}, reverse=True)
    return [CompletionItem(str(number)) for number in numbers if str(number).startswith(incomplete)]


def plan(_: Context, incomplete: str) -> list[CompletionItem[str]]:
    """Let the shell complete the name of a file."""
    return [CompletionItem(incomplete, type="file")]


def _file(context: Context) -> Path:
    from fleet.cli.session import nearest

    given = context.params.get("file") or os.environ.get("FLEET_FILE")
    return Path(given) if given else nearest()


def _fleet(context: Context) -> dict[str, Any]:
    """Return the contents of fleet.toml; nothing if it cannot be read."""
    try:
        return tomllib.loads(read_file(_file(context), most=LARGEST).decode())
    except (OSError, ValueError, RecursionError):
        return {}


def _table(parent: object, key: str) -> dict[str, Any]:
    table = parent.get(key) if isinstance(parent, dict) else None
    return table if isinstance(table, dict) else {}


def _name(context: Context) -> str:
    """Return the name of the fleet, by which its state is found."""
    name = _table(_fleet(context), "fleet").get("name", _file(context).resolve().parent.name)
    return name if isinstance(name, str) and _SAFE.fullmatch(name) else "fleet"


def _hosts(fleet: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what selectors may name, each with its table: hosts, each before its profiles, which have keys of it."""
    found: dict[str, dict[str, Any]] = {}
    hosts = _table(fleet, "hosts")
    for name in hosts:
        host = _table(hosts, name)
        if host.get("driver") != "none":
            found[name] = host
        profiles = _table(host, "profiles")
        found |= {f"{name}.{profile}": {**host, **_table(profiles, profile)} for profile in profiles}
    return {name: table for name, table in found.items() if _SAFE.fullmatch(name)}


def _key(fleet: dict[str, Any], host: dict[str, Any], key: str) -> object:
    """Return a key of a host, which may be that of [defaults]."""
    return host.get(key, _table(fleet, "defaults").get(key))


def _tags(fleet: dict[str, Any], host: dict[str, Any]) -> list[str]:
    tags = _key(fleet, host, "tags")
    return [tag for tag in tags if isinstance(tag, str) and _SAFE.fullmatch(tag)] if isinstance(tags, list) else []


def _count(count: int) -> str:
    return f"{count} host" if count == 1 else f"{count} hosts"
