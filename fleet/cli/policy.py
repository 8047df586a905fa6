"""`fleet policy`: what policy.toml says about a plan, and why."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.policy import Verdict


@click.group()
def policy() -> None:
    """Tell what policy.toml says. docs/policy.md has its rules.

    \b
    fleet policy explain update.plan
    """


@policy.command()
@click.argument("place", metavar="FILE|DIGEST")
@options.selectors
@options.file
@options.as_json
@click.option(
    "--signatures",
    "signed",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Signatures that are elsewhere than beside the plan. May be given several times.",
)
def explain(
    place: str, selectors: tuple[str, ...], file: Path | None, signed: tuple[Path, ...], *, as_json: bool
) -> int:
    """Tell for each host of a plan what policy.toml decides now, by which rules, and what satisfies them or is missing.

    The exit code is 1 if `fleet apply` would be refused, as it is for hosts with a gate where nobody has signed the
    plan. No host is contacted; the git repository that policy.toml names is asked where a rule asks for something.

    \b
    fleet policy explain update.plan
    fleet policy explain update.plan @prod --json
    """
    from fleet.cli.plan import find_plan
    from fleet.cli.signing import signatures_of
    from fleet.errors import PolicyError
    from fleet.library.documents import verdict as document
    from fleet.library.governed import require_signed
    from fleet.library.judging import Plea
    from fleet.library.plans import require_applicable
    from fleet.output.format import failure_lines

    inventory = session.open_inventory(file)
    plan = find_plan(place, file)
    names = require_applicable(plan, inventory, selectors, now=time.time())
    fleet = session.fleet(inventory, ())
    plea = Plea(signatures=signatures_of(fleet, plan, place, signed))
    found = asyncio.run(fleet.judge(plan, *names, plea=plea))
    unsigned = ""
    try:
        require_signed(plan, inventory, names, plea)
    except PolicyError as error:
        unsigned = error.message
        click.echo("\n".join(failure_lines([], error.failure())), err=True)
    if as_json:
        click.echo(json.dumps(document(plan, found, unsigned=unsigned)))
    elif found is None:
        click.echo(f"there is no policy.toml beside {inventory.path}: everything is allowed")
    else:
        click.echo("\n".join(_lines(found)))
    return 1 if unsigned or (found is not None and found.refused) else 0


def _lines(found: Verdict) -> Iterator[str]:
    from fleet.output.format import one_line
    from fleet.text import listed

    groups: dict[tuple[str, ...], list[Any]] = {}
    for host, demands in found.by_host.items():
        lines = [f"  {demand.says}, by {demand.rule}: {demand.why}" for demand in demands]
        decision = found.decisions[host]
        word = f"{decision}, and satisfied" if decision == "ask" and found.satisfied else str(decision)
        groups.setdefault((word, *(lines or ["  no rule speaks about it"])), []).append(host)
    for (word, *lines), hosts in groups.items():
        yield one_line(f"{listed(hosts)}: {word}")
        yield from map(one_line, lines)
    if "ask" in found.decisions.values():
        yield one_line(f"satisfied: {found.satisfied}" if found.satisfied else f"missing: {found.lacking}")
