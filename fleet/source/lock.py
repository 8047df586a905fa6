"""Judge a lock file: whether everything that the flake depends on is locked, and whether others can get it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fleet.model import Finding, Severity

OLD_DAYS = 90
"""The age in days from which on people should know about an input that their hosts get packages from."""
_STALE = re.compile(
    r"lock file changes|cannot update (unlocked )?flake input"
    r"|unable to download|[Cc]ould(n't| not) resolve|failed to fetch"
)
Node = Mapping[str, Any]


def stale(stderr: str) -> Finding | None:
    """Return a finding if `nix flake metadata` failed because the lock file does not fit the flake.

    With a lock file that does, Nix fetches nothing.
    """
    if not _STALE.search(stderr):
        return None
    return Finding(
        kind="lock_stale",
        message="flake.lock does not fit the inputs of flake.nix",
        hint="nix flake lock, look at the difference, and commit it",
    )


def findings(locks: Node, *, now: float) -> list[Finding]:
    """Return what is wrong with the locked inputs. `now` is in seconds since 1970."""
    nodes = locks.get("nodes", {})
    found = [finding for name, node in _inputs(nodes) for finding in _of_input(name, node)]
    return found + [finding for name, node in _direct(nodes) for finding in _age(name, node, now)]


def is_settled(locks: Node) -> bool:
    """Whether the lock file alone determines every input, whatever is on this machine or elsewhere."""
    nodes = dict(_inputs(locks.get("nodes", {}))).values()
    return all(
        _is_locked(node.get("locked", {}))
        and not _local(node.get("locked", {}))
        and not _local(node.get("original", {}))
        for node in nodes
        if "parent" not in node
    )


def _inputs(nodes: Node) -> Iterator[tuple[str, Node]]:
    return ((name, node) for name, node in nodes.items() if name != "root")


def _direct(nodes: Node) -> Iterator[tuple[str, Node]]:
    for name, target in nodes.get("root", {}).get("inputs", {}).items():
        if isinstance(target, str) and target in nodes:
            yield name, nodes[target]


def _of_input(name: str, node: Node) -> Iterator[Finding]:
    locked, original = node.get("locked", {}), node.get("original", {})
    if place := _local(locked) or _local(original):
        yield Finding(
            kind="path_input",
            message=f"input {name} is the folder {place}: another machine has another one there, or none",
            hint=f"give it a git address, or keep it inside of this flake (./{name})",
        )
    elif not _is_locked(locked) and "parent" not in node:
        yield Finding(
            kind="unlocked_input",
            message=f"input {name} is not locked: what it is can change without a commit here",
            hint="commit what it points to, then: nix flake update",
        )


def _is_locked(locked: Node) -> bool:
    if locked.get("type") == "path":
        return True  # a relative path, which is part of this flake
    return bool(locked.get("rev") or locked.get("narHash")) and not locked.get("dirtyRev")


def _local(reference: Node) -> str:
    """Return the folder of an input that is on this machine only, or an empty string."""
    if reference.get("type") == "path" and str(reference.get("path", "")).startswith("/"):
        return str(reference["path"])
    url = str(reference.get("url", ""))
    return url.removeprefix("file://") if url.startswith(("file:///", "/")) and reference.get("type") == "git" else ""


def _age(name: str, node: Node, now: float) -> Iterator[Finding]:
    changed = node.get("locked", {}).get("lastModified")
    days = int((now - changed) / 86400) if isinstance(changed, int) else 0
    if days > OLD_DAYS:
        yield Finding(
            kind="lock_old",
            severity=Severity.NOTE,
            message=f"input {name} is {days} days old: so are its security updates",
            hint="nix flake update",
        )
