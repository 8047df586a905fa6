"""Find the derivation of each host: remembered from an earlier evaluation of the same source, or evaluated now."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import EvaluationError, HostError
from fleet.events import FindingReported, OutputLine
from fleet.model import Severity
from fleet.source import snapshot
from fleet.source.remedies import explained, ignored_settings
from fleet.steps.evaluate import WORKERS, Evaluated, Evaluation, evaluate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.events import Emit, Event
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import Closure, Derivation, HostName
    from fleet.source.evaluations import Evaluations


@dataclass(frozen=True)
class Known(Evaluation):
    """An evaluation of which some hosts were remembered and not evaluated again."""

    recalled: frozenset[HostName] = field(default_factory=frozenset)
    """The hosts that were remembered."""


async def evaluated(
    here: Machine,
    flake: str,
    hosts: Sequence[Host],
    *,
    cache: Evaluations | None,
    options: Mapping[str, str] | None = None,
    emit: Emit,
) -> Known:
    """Return each host's derivation, or the error that Nix gave for it.

    With a cache, a host is evaluated only if its source has changed since it was remembered, and new results are
    remembered. They are not if the source changed during the evaluation: nobody knows then which version Nix read.
    `options` are those that `here` gives to Nix: other options may mean other results.
    """
    lines: list[str] = []

    def show(event: Event) -> None:
        if isinstance(event, OutputLine):
            lines.append(event.text)
        emit(event)

    before = await snapshot.take(here, flake, options) if cache is not None else None
    if cache is None or before is None:
        fresh = await _evaluate(here, flake, hosts, emit=show)
        _note_ignored(lines, emit)
        return Known(fresh.found, fresh.failed)
    recalled = await _recall(here, cache, before.digest, hosts)
    rest = [host for host in hosts if host.name not in recalled]
    fresh = await _evaluate(here, flake, rest, emit=show) if rest else Evaluation({}, {})
    _note_ignored(lines, emit)
    if fresh.found and before == await snapshot.take(here, flake, options):
        pairs = {_key(host): _pair(fresh.found[host.name]) for host in rest if host.name in fresh.found}
        await asyncio.to_thread(cache.remember, before.digest, pairs)
    return Known({**recalled, **fresh.found}, fresh.failed, frozenset(recalled))


async def evaluated_groups(
    here: Machine,
    groups: Mapping[str, Sequence[Host]],
    *,
    cache: Evaluations | None,
    options: Mapping[str, str] | None = None,
    emit: Emit,
) -> Known:
    """Do that for the hosts of each reference, `WORKERS` references at once.

    If Nix fails for all hosts of one of several references, each of these hosts has the error.
    """
    if len(groups) == 1:
        ((reference, hosts),) = groups.items()
        return await evaluated(here, reference, hosts, cache=cache, options=options, emit=emit)
    workers = asyncio.Semaphore(WORKERS)

    async def evaluate_group(reference: str, hosts: Sequence[Host]) -> Known:
        async with workers:
            try:
                return await evaluated(here, reference, hosts, cache=cache, options=options, emit=emit)
            except EvaluationError as error:
                return Known({}, {host.name: error for host in hosts})

    async with asyncio.TaskGroup() as tasks:
        evaluations = [tasks.create_task(evaluate_group(*group)) for group in groups.items()]
    results = [task.result() for task in evaluations]
    return Known(
        {name: found for result in results for name, found in result.found.items()},
        {name: error for result in results for name, error in result.failed.items()},
        frozenset(name for result in results for name in result.recalled),
    )


async def _evaluate(here: Machine, flake: str, hosts: Sequence[Host], *, emit: Emit) -> Evaluation:
    """Evaluate the hosts. Errors say what to do where git keeps something from Nix."""
    try:
        fresh = await evaluate(here, flake, hosts, emit=emit)
    except EvaluationError as error:
        raise await explained(here, flake, error) from error
    if not fresh.failed:
        return fresh
    failed = {name: await explained(here, flake, error) for name, error in fresh.failed.items()}
    return Evaluation(fresh.found, failed)


def _note_ignored(lines: Sequence[str], emit: Emit) -> None:
    """Report the settings of the flake that Nix did not use: a cache among them would spare builds."""
    if ignored := ignored_settings(lines):
        emit(
            FindingReported(
                host=None,
                severity=Severity.NOTE,
                kind="nix_config",
                message=f"Nix does not use what the flake's nixConfig says: {', '.join(ignored)}",
                hint="write it to this machine's nix.conf, or accept-flake-config = true there if you trust the flake",
            )
        )


async def _recall(
    here: Machine, cache: Evaluations, digest: str, hosts: Sequence[Host]
) -> Mapping[HostName, Evaluated]:
    """Return what is remembered of the hosts, without derivations that the store has lost since."""
    remembered = await asyncio.to_thread(cache.recall, digest)
    found = {host.name: Evaluated(*remembered[_key(host)]) for host in hosts if _key(host) in remembered}
    if not found:
        return {}
    try:
        answer = await here.run(nix.missing(dict.fromkeys(each.derivation for each in found.values())))
    except HostError:
        return {}
    if answer.status != 0:
        return {}
    missing = set(answer.stdout.split())
    return {name: each for name, each in found.items() if each.derivation not in missing}


def _key(host: Host) -> str:
    """Return the text under which a host is remembered: its flake attribute and system."""
    return json.dumps([host.system, *host.attr])


def _pair(found: Evaluated) -> tuple[Derivation, Closure]:
    return found.derivation, found.closure
