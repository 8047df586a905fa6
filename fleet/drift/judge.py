"""Tell which of the things on a host are drift. Pure."""

from __future__ import annotations

import dataclasses
from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from fleet.drift import access, files, packages, system
from fleet.drift.finding import Drift, DriftFinding, DriftReport
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet.drift.baseline import Baseline
    from fleet.drift.finding import Item
    from fleet.drift.look import StoreLook
    from fleet.drift.observed import Observation
    from fleet.host.facts import HostFacts
    from fleet.host.history import PastTransaction
    from fleet.inventory import Host

MOST_FINDINGS = 200
"""Findings of one class that are told of a host, at most."""
LATELY = 3600
"""Seconds before a change within which somebody became root who has probably made it."""
_ORDER = {name: number for number, name in enumerate((".timer", ".socket", ".path", ".service"))}


def undeclared(seen: Observation) -> tuple[Item, ...]:
    """Return everything on the host that its system does not declare, by the classes that a baseline can accept.

    Secrets that fleet has brought are declared in fleet.toml, wherever they are.
    """
    found = (
        *packages.of_dpkg(seen),
        *packages.of_homes(seen),
        *files.of_etc(seen),
        *files.of_units(seen),
        *files.of_crontabs(seen),
        *access.of_users(seen),
        *access.of_keys(seen),
        *access.of_listeners(seen),
    )
    return tuple(item for item in found if item.path not in seen.secrets)


def judged(items: Iterable[Item], seen: Observation, baseline: Baseline | None) -> list[Item]:
    """Return those of the undeclared things that are drift.

    Without a baseline nothing is, but on NixOS: there the declaration says it all.
    """
    if baseline is None:
        return [item for item in items if seen.is_nixos]
    found = []
    for item in items:
        if baseline.had(item) and not baseline.has(item):
            found.append(dataclasses.replace(item, message=f"has changed: {item.message}"))
        elif not baseline.had(item):
            found.append(item)
    return found


def report(
    host: Host,
    facts: HostFacts,
    past: Sequence[PastTransaction],
    seen: Observation,
    store: StoreLook,
    items: Sequence[Item],
    baseline: Baseline | None,
) -> DriftReport:
    """Return what is to be told of the host. `items` are those that `judged` has found."""
    new = _with_contents(items, store)
    fixed = (
        *system.of_system(host, facts, seen, past),
        *system.of_reboot(facts, host.name),
        *system.of_store(store, seen),
    )
    pairs = [*_together(fixed, host), *_together(new, host)]
    findings, more = [], []
    for drift in Drift:
        those = [pair for pair in pairs if pair[0].drift is drift]
        findings += [_finding(item, others, seen, host) for item, others in _told(those, seen)]
        if len(those) > MOST_FINDINGS:
            more.append(f"{len(those) - MOST_FINDINGS} findings of {drift}")
    return DriftReport(
        findings=tuple(findings),
        is_nixos=seen.is_nixos,
        baseline=baseline.at if baseline is not None else None,
        verified=store.verified,
        store_paths=store.paths,
        incomplete=(
            *seen.incomplete,
            *([] if store.is_done else ["store"]),
            *(["system: a transaction is open"] if facts.transaction is not None else []),
        ),
        more=tuple(more),
    )


def _told(pairs: Iterable[tuple[Item, list[Item]]], seen: Observation) -> list[tuple[Item, list[Item]]]:
    """Return those of the pairs that are told, in order. One home's crowd hides nothing of others."""
    homes = [home.folder for home in seen.homes if home.folder != "/"]
    count: Counter[str] = Counter()
    placed = []
    for pair in sorted(pairs, key=lambda pair: pair[0].id):
        item = pair[0]
        whose = item.owner if item.kind == "ssh_key" else next((f for f in homes if item.path.startswith(f"{f}/")), "")
        placed.append((count[whose], item.id, pair))
        count[whose] += 1
    placed = sorted(placed, key=lambda place: place[:2])[:MOST_FINDINGS]
    return [pair for _, _, pair in sorted(placed, key=lambda place: place[1])]


def _with_contents(items: Iterable[Item], store: StoreLook) -> list[Item]:
    """Return the items, with what is in each profile of Nix. One that is empty, or home-manager's, is left out."""
    found = []
    for item in items:
        if item.kind == "nix_profile" and item.sign in store.contents:
            names = packages.contents_of_profile(store.contents[item.sign])
            if names is None:
                continue
            item = dataclasses.replace(item, message=f"{item.message}: {listed(names, most=8)}")
        found.append(item)
    return found


def _together(everything: Iterable[Item], host: Host) -> list[tuple[Item, list[Item]]]:
    """Return each thing with what came with it: one change is one finding, whatever it has left.

    What is ignored is left out first: it hides nothing that is not ignored itself.
    """
    items = [item for item in everything if not _is_ignored(item, host)]
    roots: dict[str, Item] = {}
    for item in sorted((one for one in items if one.key), key=_rank):
        roots.setdefault(item.key, item)
    with_it: dict[str, list[Item]] = {}
    for item in items:
        root = _root(item, roots)
        if root is not item:
            with_it.setdefault(root.id, []).append(item)
        else:
            with_it.setdefault(item.id, [])
    by_id = {item.id: item for item in items}
    return [(by_id[name], others) for name, others in with_it.items()]


def _root(item: Item, roots: dict[str, Item]) -> Item:
    """Return what the item came with, at last: itself, if it came alone."""
    for _ in range(4):  # a link of a unit of a package
        keys = (*item.of, item.key)
        found = next((roots[key] for key in keys if key in roots and roots[key] is not item), None)
        if found is None:
            break
        item = found
    return item


def _rank(item: Item) -> int:
    return next((number for suffix, number in _ORDER.items() if item.path.endswith(suffix)), len(_ORDER))


def _is_ignored(item: Item, host: Host) -> bool:
    return any(fnmatchcase(item.id, glob) or fnmatchcase(item.path, glob) for glob in host.ignore_drift)


def _finding(item: Item, others: Sequence[Item], seen: Observation, host: Host) -> DriftFinding:
    also = [f"{one.path} ({one.message})" if one.path != item.path else one.message for one in others]
    message = f"{item.message}; with {listed(also, most=4)}" if also else item.message
    who = _actor(item, seen, host)
    return DriftFinding(
        drift=item.drift,
        kind=item.kind,
        id=item.id,
        message=message,
        path=item.path,
        owner=item.owner,
        at=item.at,
        cause=f"{item.cause}; {who}" if who else item.cause,
        fix=item.fix,
    )


def _actor(item: Item, seen: Observation, host: Host) -> str:
    """Return the agent whose it is; or who became root shortly before, if only root can have done it.

    Fleet itself does not count.
    """
    if item.owner in seen.agents:
        return f"the agent {item.owner} has left it"
    if not item.at or item.owner not in ("", "root") or item.drift is Drift.REBOOT:
        return ""
    known = [
        (at, f"{who} had become root by sudo" if how == "sudo" else f"root had logged in from {who}")
        for at, how, who in seen.actors
        if item.at - LATELY <= at <= item.at + 1 and who not in (seen.origin, host.user, "root")
    ]
    return max(known)[1] if known else ""
