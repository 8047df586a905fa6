"""Describe a whole fleet in a document short enough for whoever has to read all of it. No host is contacted.

It has no secrets: of checks and hooks it tells what they are, and not the commands, headers and queries in them.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fleet.output.format import human_age, short_name
from fleet.output.table import table
from fleet.text import listed, plain_text, shortened, store_path

if TYPE_CHECKING:
    from fleet.inventory import Check, Host
    from fleet.library.fleet import Fleet
    from fleet.library.seen import LastSeen
    from fleet.state import Delivery, PlanRecord, RunRecord

Document = dict[str, Any]
NEWEST = 5
"""How many runs and plans are told."""
MOST = 40
"""Tags and waves that are told, at most."""
FEW = 8
"""Checks, addresses and the like of one host that are told, at most."""
LONGEST = 60
"""Characters of the name of a check."""


async def overview(fleet: Fleet) -> Document:
    """Return the document of `fleet describe --json`: the hosts, how they are deployed to, and what was last done.

    Raise `StateError` if this machine's memory cannot be read.
    """
    inventory = fleet.inventory
    seen, waits = await fleet.last_seen(), await fleet.waiting()
    plans = [plan for plan in await fleet.kept_plans() if plan.expires > time.time()]
    return {
        **head(fleet),
        "hosts": [host_row(host, seen.get(name), waits.get(name)) for name, host in inventory.hosts.items()],
        "runs": [_run(record, is_under_way=under_way) for record, under_way in (await fleet.runs())[:NEWEST]],
        "plans": [_plan(plan) for plan in plans[:NEWEST]],
    }


def head(fleet: Fleet) -> Document:
    """Describe the fleet without its hosts."""
    inventory, rollout = fleet.inventory, fleet.inventory.rollout
    has_policy, has_principals = fleet.has_policy, fleet.principals() is not None
    return {
        "fleet": inventory.name,
        "id": inventory.id or None,
        "file": str(inventory.path),
        "source": inventory.expression or inventory.flake,
        "acts_as": fleet.by,
        "principals": has_principals,
        "policy": has_policy,
        "kinds": dict(Counter(host.kind.value for host in inventory.hosts.values())),
        "tags": dict(Counter(tag for host in inventory.hosts.values() for tag in host.tags).most_common(MOST)),
        "waves": [wave.hosts for wave in rollout.waves[:MOST]],
        "max_failures": rollout.max_failures,
    }


def host_row(host: Host, seen: LastSeen | None, waits: Delivery | None) -> Document:
    """Describe one host: what fleet.toml says, and what it was when it last answered."""
    return {
        "name": host.name,
        "kind": host.kind.value,
        "tags": list(host.tags[:FEW]),
        "address": list(host.address[:FEW]),
        "after": list(host.after[:FEW]),
        "window": list(host.window[:FEW]),
        "checks": [check_label(check) for check in host.checks[:FEW]],
        "running": store_path(seen.running) if seen else None,
        "seen": round(seen.at) if seen else None,
        "failed_units": len(seen.failed_units) if seen else None,
        "reboot": bool(seen.reboot_pending) if seen else None,
        "missed": waits.missed if waits else 0,
    }


def check_label(check: Check) -> str:
    """Return what a check is: its name, or what it looks at, without anything that may be secret."""
    if "name" in check.model_fields_set:
        return shortened(check.name, LONGEST)
    if check.http is not None:
        parts = urlsplit(check.http)
        return shortened(f"{parts.scheme}://{parts.netloc}{parts.path}", LONGEST)
    return "command" if check.command is not None else shortened(check.name, LONGEST)


def _run(record: RunRecord, *, is_under_way: bool) -> Document:
    outcomes = Counter(host.result.outcome.value if host.result else "unknown" for host in record.hosts.values())
    return {
        "run": record.id,
        "verb": record.verb,
        "by": record.by,
        "started": round(record.started) if record.started else None,
        "under_way": is_under_way,
        "exit_code": record.exit_code,
        "outcomes": dict(outcomes),
    }


def _plan(plan: PlanRecord) -> Document:
    return {"plan": plan.digest, "made": round(plan.made), "expires": round(plan.expires)}


def overview_lines(document: Document, *, now: float, is_terminal: bool = False) -> list[str]:
    """Return the document as people read it. `now` is in seconds since 1970."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in document["kinds"].items())
    policy = ", with a policy" if document["policy"] else ""
    lines = [f"{document['fleet']}: {len(document['hosts'])} hosts ({kinds}), from {document['source']}{policy}"]
    if document["waves"]:
        lines.append(f"waves: {', then '.join(document['waves'])}, then the others")
    rows = [
        (
            row["name"],
            row["kind"],
            ", ".join(row["tags"]) or "-",
            short_name(row["running"], row["name"]) if row["running"] else "-",
            f"{human_age(now - row['seen'])} ago" if row["seen"] else "never",
            listed(row["checks"], most=4) or "-",
        )
        for row in document["hosts"]
    ]
    headers = ("host", "kind", "tags", "ran", "seen", "checks")
    lines = [plain_text(line) for line in lines]
    return [*lines, "", *table(headers, rows, is_terminal=is_terminal).splitlines()]
