"""Read and write plans as files, and decide whether one may be applied."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from fleet import nix, selector
from fleet.errors import CommandFailedError, ConfigError, StateError
from fleet.files import replace_file
from fleet.inventory import BuildOn
from fleet.plans import Plan, TextError
from fleet.state.threads import in_state
from fleet.text import listed, local_time, parsed_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.inventory import Inventory
    from fleet.ledger import Entry
    from fleet.machine import Command, Machine, Output
    from fleet.model import HostName
    from fleet.state import State

LARGEST = 1 << 28
"""The most bytes of a plan that are read. A plan for 100,000 hosts is smaller."""
AGAIN = "fleet plan -o makes a new one"
AHEAD = 3600.0
"""Seconds by which clocks of machines may differ."""


MADE_HERE = "made-here"


def write_plan(plan: Plan, file: Path | str) -> None:
    """Write the plan to the file, readable for this user only. Raise `ConfigError` if that fails."""
    try:
        replace_file(Path(file), plan.text.encode("ascii"), mode=0o600, durable=True)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error


def read_plan(file: Path | str) -> Plan:
    """Return the plan in the file. Raise `ConfigError` if it has none, or one that was edited or cut."""
    try:
        with Path(file).open("rb") as opened:
            data = opened.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    if len(data) > LARGEST:
        raise ConfigError(f"{file}: is larger than any plan")
    return parse_plan(data, str(file))


def parse_plan(data: bytes, place: str) -> Plan:
    """Return the plan that `data` spells; `place` names its origin in errors.

    Raise `ConfigError` if it was edited or cut.
    """
    try:
        return Plan.parse(data.decode("ascii"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{place}: is no plan: byte {error.start} is not ASCII", hint=AGAIN) from None
    except TextError as error:
        raise ConfigError(f"{place}: {error}", hint=f"it is no plan, or not as fleet wrote it; {AGAIN}") from None


def require_applicable(plan: Plan, fleet: Inventory, selectors: Sequence[str], *, now: float) -> tuple[HostName, ...]:
    """Return the hosts that the plan would be applied to.

    Raise `ConfigError` if the plan is of another fleet, has expired or is of a time to come, or is for hosts that are
    not in fleet.toml.
    """
    if plan.fleet != fleet.name:
        raise ConfigError(f"the plan is for the fleet {plan.fleet}, and {fleet.path} is of {fleet.name}")
    if fleet.id and plan.fleet_id != fleet.id:
        named = plan.fleet_id or "none"
        raise ConfigError(f"the plan is for the fleet with the id {named}, and {fleet.path} has {fleet.id}", hint=AGAIN)
    if plan.expires <= now:
        when = local_time(plan.expires)
        raise ConfigError(f"the plan expired at {when}", hint=AGAIN)
    if 0 < now < plan.made - AHEAD:  # a gate would call each plan expired that is made before that time
        when = local_time(plan.made)
        raise ConfigError(f"the plan was made at {when}, which is to come: a clock is wrong, there or here", hint=AGAIN)
    require_known(fleet, plan.hosts)
    if not selectors:
        return plan.hosts
    chosen = {host.name for host in selector.select(fleet, selectors)}
    if not chosen & set(plan.hosts):
        raise ConfigError(f"{', '.join(selectors)}: no host of the plan", hint=f"it is for {', '.join(plan.hosts)}")
    return tuple(host for host in plan.hosts if host in chosen)


def unknown_hosts(fleet: Inventory, hosts: Sequence[HostName]) -> list[HostName]:
    """Return those of these hosts of a plan that fleet.toml does not have: it may be a later one."""
    return [host for host in hosts if host not in fleet.hosts]


def require_known(fleet: Inventory, hosts: Sequence[HostName]) -> Sequence[HostName]:
    """Return these hosts of a plan. Raise `ConfigError` if fleet.toml does not have all of them."""
    if unknown := unknown_hosts(fleet, hosts):
        hint = "fleet.toml says how its hosts are reached; apply the plan with the one that has them"
        raise ConfigError(f"{fleet.path}: has no host {listed(unknown, most=6)}, which the plan is for", hint=hint)
    return hosts


async def keep_plan(plan: Plan, state: State, here: Machine, entry: Entry) -> None:
    """Remember the plan in the state, and protect what it needs of the local store from the garbage collector.

    Both last until the plan expires. If it was not there, `entry` comes into the ledger. Raise `StateError` if that
    fails.
    """
    await in_state(state.keep_plan, plan.digest, plan.text, expires=plan.expires, entry=entry)
    parts = plan.parts.values()
    paths: list[str] = [*dict.fromkeys(part.closure for part in parts if part.manifest)]
    built_there = [part.derivation for part in parts if part.build_on is BuildOn.TARGET]
    derivations = dict.fromkeys(derivation for derivation in built_there if derivation is not None)
    if derivations:
        referring = await _rooting(here, nix.refer_to(derivations))
        paths.append(path_in(referring.stdout))
    if not paths:
        return
    folder = state.plan_folder(plan.digest)
    try:
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"{folder}: cannot be made: {error.strerror}") from error
    await _rooting(here, nix.realise(paths, root=folder / "closure"))


def signatures_file(plan: Plan, state: State) -> Path:
    """Return where this machine keeps the signatures of a plan that it keeps. It may not exist."""
    return state.plan_folder(plan.digest) / "signatures"


def note_made_here(plan: Plan, state: State) -> None:
    """Note that this machine has made the plan, until the plan is forgotten. A full disk forgets it at once."""
    folder = state.plan_folder(plan.digest)
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / MADE_HERE).touch(mode=0o600)


def is_made_here(plan: Plan, state: State) -> bool:
    """Return whether that was noted. That a plan is kept says nothing: those from elsewhere are, once applied."""
    return (state.plan_folder(plan.digest) / MADE_HERE).exists()


async def _rooting(here: Machine, command: Command) -> Output:
    try:
        ran = await here.run(command)
    except CommandFailedError as error:
        raise StateError(f"the closures of the plan cannot be rooted: {error.message}", said=error.said) from error
    if ran.status != 0:
        raise StateError("the closures of the plan cannot be rooted", said=ran.stderr.splitlines()[-5:])
    return ran


def path_in(stdout: str) -> str:
    """Return the store path that Nix has printed as a Nix string. Raise `StateError` for anything else."""
    with contextlib.suppress(ValueError):
        path = parsed_json(stdout)
        if isinstance(path, str) and path.startswith("/nix/store/"):
            return path
    raise StateError("cannot keep the plan's derivations: Nix printed something else than a store path")
