"""Show what a plan changes, from the approver's own evaluation and store, and from nothing that the plan says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import ConfigError, FleetError, PolicyError
from fleet.library.approving import evaluate_purely
from fleet.machine import Command
from fleet.source.tree import said
from fleet.text import listed, plain_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleet.diff import PackageChange
    from fleet.inventory import Host
    from fleet.library.approving import Examined, Origin
    from fleet.library.tools import Tools
    from fleet.model import Derivation, HostName
    from fleet.plans import Plan
    from fleet.steps.evaluate import Evaluated

MOST = 40
"""Lines of packages that are shown, at most."""


async def own_diff(tools: Tools, plan: Plan, examined: Examined, *, branch: str | None) -> list[str]:
    """Return lines about what changes: commits and files since the base, and per host the packages.

    The base is the protected `branch`, or what is checked out here. Where both systems of a host are in this machine's
    store, they are compared in full.
    """
    lines: list[str] = []
    for origin, hosts in examined.origins.items():
        try:
            base, name = await _base(tools, origin, branch)
            lines += [f"since {name} ({base[:12]}):", *(await origin.copies.changes(base, origin.revision))]
            before = await evaluate_purely(tools, origin.copies.flake(base, origin.inside), hosts)
            lines += await _packages(tools, plan, before.found, examined.evaluated, hosts)
        except (ConfigError, PolicyError) as error:
            lines.append(f"not compared with anything: {error.message}")
    return [plain_text(line) for line in lines] + await _in_full(tools, plan)


async def _base(tools: Tools, origin: Origin, branch: str | None) -> tuple[str, str]:
    """Return the commit that a diff begins at, which was brought, and what people call it."""
    if branch is not None:
        return await origin.copies.head(branch), branch
    from fleet.source import git

    head = (await said(tools.here, git.head(origin.root)) or "").strip()
    await origin.copies.bring(head, str(origin.root))
    return head, "what is checked out here"


async def _packages(
    tools: Tools,
    plan: Plan,
    before: Mapping[HostName, Evaluated],
    after: Mapping[HostName, Evaluated],
    hosts: Sequence[Host],
) -> list[str]:
    """Return which packages differ between what the hosts evaluate to at the base and now, equal hosts together."""
    from fleet.diff.packages import changed_packages

    rows: dict[str, list[HostName]] = {}
    for host in hosts:
        old, new = before.get(host.name), after[host.name]
        if old is None:
            rows.setdefault("is not there yet", []).append(host.name)
            continue
        if old.closure != plan.parts[host.name].expected:
            rows.setdefault("runs something else than that now", []).append(host.name)
        names, newer = [await _inputs(tools, each.derivation) for each in (old, new)]
        changes = list(map(_package, changed_packages(names, newer)))
        if not changes and old.derivation != new.derivation:
            changes = ["no package has another version: configuration changes"]
        for words in changes or ["stays the same"]:
            rows.setdefault(words, []).append(host.name)
    lines = [f"  {listed(names, most=6)}: {words}" for words, names in rows.items()]
    return lines[:MOST] + ([f"  … and {len(lines) - MOST} more"] if len(lines) > MOST else [])


async def _inputs(tools: Tools, derivation: Derivation) -> dict[str, int]:
    """Return what the derivation is built from, each with no size: nothing has to be built to know versions."""
    argv = ("nix-store", "--query", "--requisites", derivation)
    listed_ones = await tools.here.run(Command(argv=argv, root=False))
    if listed_ones.status != 0:
        raise PolicyError(f"{derivation}: Nix does not say what it is built from")
    paths: Iterable[str] = listed_ones.stdout.split()
    return {path.removesuffix(".drv"): 0 for path in paths if path.endswith(".drv")}


def _package(change: PackageChange) -> str:
    old, new = ", ".join(change.old), ", ".join(change.new)
    if not change.old:
        return f"{change.name} added {new}".rstrip()
    return f"{change.name} {old} -> {new}" if change.new else f"{change.name} removed"


async def _in_full(tools: Tools, plan: Plan) -> list[str]:
    """Return what differs between systems of which both are here."""
    from fleet.diff import SystemDiff, brief, read_diff

    found: dict[HostName, SystemDiff | FleetError] = {}
    for part in plan.parts.values():
        missing = await tools.here.run(nix.missing([part.expected, part.closure]))
        if missing.status == 0 and not missing.stdout.strip() and part.expected != part.closure:
            try:
                found[part.host] = await read_diff(tools.here, part.expected, tools.here, part.closure)
            except FleetError:  # what is above tells enough
                continue
    return brief(found, is_terminal=False) if found else []
