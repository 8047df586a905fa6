"""Decide whether a worker applies a plan that is in the database, which others can write to as well."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING

from fleet.errors import ConfigError, PolicyError
from fleet.library.authority import authority_of
from fleet.library.judging import Judge, Plea
from fleet.library.plans import parse_plan, require_applicable
from fleet.signing import bundle
from fleet.state.threads import in_state

if TYPE_CHECKING:
    from fleet.inventory import Inventory
    from fleet.library.tools import Tools
    from fleet.plans import Plan
    from fleet.policy import Principals
    from fleet.state.shares import Rollout

UNTRUSTED = "whoever can write to the database could have workers apply anything as root"


def require_trust(fleet: Inventory, *, trusts: bool) -> Principals | None:
    """Return by whose signatures a worker goes; None if it trusts the database.

    Raise `ConfigError` if there is no principals.toml and nobody has said that the database is to be trusted.
    """
    authority = authority_of(fleet)
    principals = authority.principals if authority is not None else None
    if principals is None and not trusts:
        hint = "write principals.toml, so that plans are signed, or say --trust-database: docs/workers.md"
        raise ConfigError(f"there is no principals.toml beside {fleet.path}: {UNTRUSTED}", hint=hint)
    return principals


async def trusted_plan(tools: Tools, row: Rollout, *, trusts: bool) -> Plan:
    """Return the plan of a rollout. Raise `ConfigError` or `PolicyError` if this worker does not apply it.

    Where there are principals its author has signed it, and policy.toml allows it by the signatures that came with it.
    """
    fleet = tools.inventory
    principals = require_trust(fleet, trusts=trusts)
    text = await in_state(tools.state.plan, row.plan)
    plan = await asyncio.to_thread(parse_plan, text.encode("ascii", "replace"), f"the plan of run {row.run}")
    if plan.digest != row.plan:
        raise PolicyError(f"run {row.run}: the database has another plan under {row.plan}")
    require_applicable(plan, fleet, [], now=time.time())
    if principals is None:
        return plan
    from fleet.library.signatures import verified

    try:
        signatures = bundle.parse(row.signatures, plan.digest) if row.signatures else ()
    except ValueError as error:
        raise PolicyError(f"run {row.run}: its signatures cannot be read: {error}") from None
    signed = await verified(plan, signatures, principals)
    if not signed.author:
        ignored = signed.ignored
        raise PolicyError(f"run {row.run}: {plan.by}, who has made its plan, has not signed it", said=ignored)
    from fleet.policy import Actor

    author = Actor(plan.by, principals.kind_of(plan.by))
    judge = Judge(dataclasses.replace(tools, by=plan.by, acts_as=author))
    await judge.require_plan(plan, plan.hosts, Plea(signatures=signatures), is_own=True, has_begun=True)
    return plan
