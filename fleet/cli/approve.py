"""`fleet approve` and `fleet withdraw`: what people say about a plan that somebody has made."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, questions, session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet import Fleet, Plan
    from fleet.cli.questions import Consent
    from fleet.library.approving import Examined


@click.command()
@click.argument("place", metavar="FILE|DIGEST")
@options.file
@options.key
@click.option("--rebuild", is_flag=True, help="Build the systems here too, and compare their contents.")
@options.yes
def approve(place: str, file: Path | None, key: Path | None, *, rebuild: bool, yes: bool) -> int:
    """Look at a plan that somebody else has made, and sign that it may be applied.

    Nothing of the plan is believed. Its commit is fetched from where policy.toml says, and evaluated on this machine
    with the options of your own fleet.toml; if that makes another system, it is refused. What changes is shown from
    that, you are asked once, and ssh-keygen signs with your key: docs/signing.md. No host is contacted.

    \b
    fleet approve update.plan
    fleet approve update.plan --rebuild --key ~/.ssh/id_ed25519_sk
    """
    from fleet.cli.plan import find_plan
    from fleet.cli.signing import keep_signature, make_signature, place_of_signatures, signatures_of
    from fleet.errors import ConfigError
    from fleet.ledger import Kind
    from fleet.library.plans import require_applicable
    from fleet.signing import APPROVAL

    inventory = session.open_inventory(file)
    plan = find_plan(place, file)
    require_applicable(plan, inventory, (), now=time.time())
    fleet = session.fleet(inventory, ())
    if not yes and not sys.stdin.isatty():
        raise ConfigError(
            "there is no terminal to ask on", hint="say --yes if you have looked at the plan some other way"
        )
    told = asyncio.run(fleet.verified(plan, signatures_of(fleet, plan, place)))
    with session.display() as output:
        output.wait_for(f"{'build' if rebuild else 'evaluate'} what the plan was made from", hosts=plan.hosts)
        examined = asyncio.run(fleet.examine(plan, rebuild=rebuild))
        output.wait_for("compare it with what is there")
        lines = asyncio.run(fleet.own_diff(plan, examined))
    author = (
        f"signed by {told.author}, who has made it"
        if told.author
        else f"not signed: it only says that {plan.by} made it"
    )
    click.echo("\n".join([*_described(plan, examined, author, rebuild=rebuild), *lines]), err=True)
    if not yes and not questions.confirmed(f"\nApprove this plan as {fleet.by}?"):
        click.echo("Nothing was signed.", err=True)
        return 1
    signature = make_signature(fleet, plan, APPROVAL, key, touch=fleet.wants_touch())
    where = place_of_signatures(fleet, plan, place)
    key_ = signature.key.fingerprint
    asyncio.run(fleet.ledger.enter(Kind.APPROVAL, plan=plan.digest, key=key_, touched=signature.is_touched))
    keep_signature(plan, where, signature)
    touched = ", touched" if signature.is_touched else ""
    click.echo(f"approved by {fleet.by} with {signature.key.fingerprint}{touched}: {where}", err=True)
    return 0


def _described(plan: Plan, examined: Examined, author: str, *, rebuild: bool) -> Iterator[str]:
    """Yield lines about the plan, and what was found out about it here."""
    from fleet.library.describe import describe
    from fleet.output.format import counted, one_line

    yield from describe(plan, now=time.time(), is_terminal=sys.stderr.isatty())
    yield ""
    yield one_line(author)
    built = ", and built to the same contents" if rebuild else ""
    yield f"{counted(len(examined.evaluated), 'host')} evaluated here, purely, to the very systems of the plan{built}"
    yield from (one_line(remark) for remark in examined.remarks)
    yield ""


@click.command()
@click.argument("place", metavar="FILE|DIGEST")
@options.selectors
@options.file
@options.yes
@options.ask
def withdraw(place: str, selectors: tuple[str, ...], file: Path | None, **consents: Any) -> int:
    """Make a plan worthless for all of its hosts, or for some: wherever copies of it are, no host begins it any more.

    Each host that the plan still fits draws a new serial, and remembers who has withdrawn what. That needs no
    signature. What has begun is seen through.

    \b
    fleet withdraw update.plan
    fleet withdraw 729787fb gpu-01
    """
    from fleet.cli.plan import find_plan
    from fleet.cli.questions import Consent
    from fleet.library.plans import require_applicable

    inventory = session.open_inventory(file)
    plan = find_plan(place, file)
    names = require_applicable(plan, inventory, selectors, now=0)
    consent = Consent(**consents)
    consent.require_terminal(len(names))
    fleet = session.fleet(inventory, [inventory.hosts[name] for name in names])
    return _withdraw(fleet, plan, names, consent)


def _withdraw(fleet: Fleet, plan: Plan, names: tuple[str, ...], consent: Consent) -> int:
    from fleet.errors import FleetError
    from fleet.model import HostName
    from fleet.output.format import counted
    from fleet.text import plain_text

    if consent.is_asked_for(len(names)) and not questions.confirmed(f"Withdraw it from {counted(len(names), 'host')}?"):
        click.echo(questions.UNTOUCHED, err=True)
        return 1
    with session.asking("to forget the plan", as_json=False) as wait_for:
        answers = asyncio.run(fleet.withdraw(plan, *map(HostName, names), on_wait=wait_for))
    for name, answer in answers.items():
        if not isinstance(answer, FleetError):
            said = f"withdrawn, the serial is {plain_text(answer)}" if answer else "was worthless already"
            click.echo(f"{name}: {said}")
    session.tell_unentered(fleet)
    return 1 if session.tell_errors(answers) else 0
