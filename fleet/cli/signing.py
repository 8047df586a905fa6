"""What commands about signed plans share: where signatures are, and how one is made."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet import Fleet, Plan
    from fleet.deploy.options import Options
    from fleet.inventory import Inventory
    from fleet.library.judging import Plea
    from fleet.signing import Signature


def with_id(inventory: Inventory) -> Inventory:
    """Return the inventory, whose file has an id then: signatures say by it which fleet they are for."""
    if inventory.id:
        return inventory
    from fleet import inventory as inventories
    from fleet.inventory.edit import set_id
    from fleet.library.tools import new_fleet_id

    set_id(inventory.path, new_fleet_id())
    click.echo(f"wrote id of [fleet] to {inventory.path}: commit it, so that others have the same", err=True)
    return inventories.load(inventory.path)


def amending(
    wanted: Options, earlier: Plan, inventory: Inventory, selectors: Sequence[str]
) -> tuple[Options, tuple[str, ...]]:
    """Return the options of a plan that amends an earlier one, and the names of its hosts, or of those selected.

    Raise `ConfigError` if the earlier one is none that deploys, or of another fleet.
    """
    from fleet.errors import ConfigError
    from fleet.library.plans import require_applicable
    from fleet.model import Goal, Reboot, Verb

    if earlier.verb is not Verb.DEPLOY:
        raise ConfigError(f"--amend: the plan is one to {earlier.verb}, and only deployments are amended")
    names = require_applicable(earlier, inventory, selectors, now=0)
    by_reboot = earlier.goal is Goal.BOOT
    return dataclasses.replace(
        wanted,
        amends=earlier,
        goal=Goal.SWITCH if by_reboot else earlier.goal,
        reboot=Reboot.ALWAYS if by_reboot else wanted.reboot,
        intent=wanted.intent or earlier.intent,
    ), tuple(names)


def is_file(place: str) -> bool:
    """Whether a plan that was named so comes from a file, and not from this machine's memory."""
    return Path(place).exists()


def place_of_signatures(fleet: Fleet, plan: Plan, place: str) -> Path:
    """Return where the signatures are of a plan that was named `place`."""
    from fleet.library.signatures import beside

    return beside(Path(place)) if is_file(place) else fleet.signatures_file(plan)


def signatures_of(fleet: Fleet, plan: Plan, place: str, more: Sequence[Path] = ()) -> tuple[Signature, ...]:
    """Return all signatures of a plan: those beside it, those that this machine keeps, and those of more files."""
    usual = [place_of_signatures(fleet, plan, place), fleet.signatures_file(plan)]
    if not more and not any(file.exists() for file in usual):
        return ()
    from fleet.library.signatures import read_signatures

    found = [signature for file in usual for signature in read_signatures(plan, file)]
    found += [signature for file in more for signature in read_signatures(plan, file, must_exist=True)]
    return tuple(dict.fromkeys(found))


def sign_plan(fleet: Fleet, plan: Plan, target: Path, key: Path | None) -> None:
    """Sign the plan as its author, beside its file and where this machine keeps it, and tell who has."""
    from fleet.library.signatures import beside
    from fleet.signing import PLAN

    signature = make_signature(fleet, plan, PLAN, key, touch=False)
    for file in (beside(target), fleet.signatures_file(plan)):
        keep_signature(plan, file, signature)
    click.echo(f"signed by {plan.by} with {signature.key.fingerprint}: {beside(target)}", err=True)
    sources = [plan.source_of(name) for name in plan.hosts]
    if not all(source.is_clean and source.revision for source in sources):
        click.echo("nobody can approve it: it was made from what is in no commit", err=True)


def make_signature(fleet: Fleet, plan: Plan, namespace: str, key: Path | None, *, touch: bool) -> Signature:
    """Sign the plan with the key, or with one of whoever acts. Raise `ConfigError` if that comes to nothing."""
    from fleet.library.signatures import signing_key
    from fleet.signing import keygen

    with signing_key(fleet.by, fleet.principals(), key, touch=touch) as file:
        return keygen.sign(plan.head, namespace=namespace, key=file)


def keep_signature(plan: Plan, file: Path, signature: Signature) -> None:
    """Add the signature to the file. Raise `ConfigError` if that fails."""
    from fleet.library.signatures import add_signatures

    add_signatures(plan, file, [signature])


def with_id_if_signed(inventory: Inventory) -> Inventory:
    """Return the inventory, whose file has an id then if there are principals, who sign plans for workers."""
    from fleet.library.authority import authority_of

    authority = authority_of(inventory)
    return with_id(inventory) if authority is not None and authority.principals is not None else inventory


def signed_for_workers(fleet: Fleet, plan: Plan, plea: Plea) -> Plea:
    """Return what is brought forward for a plan that workers apply: with its author's signature, where there are
    principals. Raise `ConfigError` if there is no key to sign it with.
    """
    from fleet.signing import PLAN

    is_signed = any(signature.namespace == PLAN for signature in plea.signatures)
    if fleet.principals() is None or is_signed or not plan.parts:
        return plea
    signature = make_signature(fleet, plan, PLAN, None, touch=False)
    return dataclasses.replace(plea, signatures=(*plea.signatures, signature))
