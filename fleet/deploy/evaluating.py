"""Derivations of hosts: what the unchanged source evaluated to before, and an evaluation for the rest."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import HostError
from fleet.source import snapshot
from fleet.steps.evaluate import Evaluated, Evaluation, evaluate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.events import Emit
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import Closure, Derivation, HostName
    from fleet.source.evaluations import Evaluations


@dataclass(frozen=True)
class Known(Evaluation):
    """An evaluation, and whose part of it was known before."""

    recalled: frozenset[HostName] = field(default_factory=frozenset)


async def evaluated(
    here: Machine, flake: str, hosts: Sequence[Host], *, cache: Evaluations | None, emit: Emit
) -> Known:
    """Every host has its derivation, or the error that Nix gave for it.

    With a cache, hosts of a source that has not changed since are not evaluated, and what is evaluated is known the
    next time: unless the source changed meanwhile, then nobody knows what Nix saw.
    """
    before = await snapshot.take(here, flake) if cache is not None else None
    if cache is None or before is None:
        fresh = await evaluate(here, flake, hosts, emit=emit)
        return Known(fresh.found, fresh.failed)
    recalled = await _recall(here, cache, before.digest, hosts)
    rest = [host for host in hosts if host.name not in recalled]
    fresh = await evaluate(here, flake, rest, emit=emit) if rest else Evaluation({}, {})
    if fresh.found and before == await snapshot.take(here, flake):
        pairs = {_key(host): _pair(fresh.found[host.name]) for host in rest if host.name in fresh.found}
        await asyncio.to_thread(cache.remember, before.digest, pairs)
    return Known({**recalled, **fresh.found}, fresh.failed, frozenset(recalled))


async def _recall(
    here: Machine, cache: Evaluations, digest: str, hosts: Sequence[Host]
) -> Mapping[HostName, Evaluated]:
    """What is known of the hosts, as far as its derivations are still in the store."""
    known = await asyncio.to_thread(cache.recall, digest)
    found = {host.name: Evaluated(*known[_key(host)]) for host in hosts if _key(host) in known}
    if not found:
        return {}
    try:
        answer = await here.run(nix.missing(dict.fromkeys(one.derivation for one in found.values())))
    except HostError:
        return {}
    gone = set(answer.stdout.split())
    return {name: one for name, one in found.items() if one.derivation not in gone} if answer.status == 0 else {}


def _key(host: Host) -> str:
    return json.dumps([host.system, *host.attr])


def _pair(one: Evaluated) -> tuple[Derivation, Closure]:
    return one.derivation, one.closure
