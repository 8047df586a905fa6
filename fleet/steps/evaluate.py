"""Evaluate all hosts with one command. If that fails, evaluate each alone to find out which of them are at fault."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import EvaluationError, HostError
from fleet.events import OutputLine
from fleet.inventory.drivers import default_attribute
from fleet.inventory.origins import is_expression
from fleet.model import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fleet.events import Emit
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import Closure, Derivation, HostName

WORKERS = 2
"""Evaluations at once when each host is evaluated alone: each may take gigabytes of memory."""
DEPLOY_RS = "activatable-"
"""How the names begin that deploy-rs gives to what its `activate` functions return."""
_HASH = len(f"/nix/store/{'0' * 32}-")
IGNORED = "error (ignored)"
"""The beginning of what Nix writes about trouble that changes nothing, such as a busy cache of its own."""


@dataclass(frozen=True)
class Evaluated:
    """What a host's attribute evaluates to, before it is built."""

    derivation: Derivation
    closure: Closure


@dataclass(frozen=True)
class Evaluation:
    """The hosts that evaluated and those that did not. Each host is in exactly one of the two."""

    found: Mapping[HostName, Evaluated]
    failed: Mapping[HostName, EvaluationError]


async def evaluate(here: Machine, flake: str, hosts: Sequence[Host], *, emit: Emit) -> Evaluation:
    """Return each host's derivation, or the error that Nix gave for it.

    The output of a failed evaluation is not used. Raise `EvaluationError` if Nix fails though each host evaluates
    alone.
    """
    found: dict[HostName, Evaluated] = {}
    failed: dict[HostName, EvaluationError] = {}
    for output, group in grouped(flake, hosts):
        try:
            found |= await _together(here, flake, output, group, emit)
        except EvaluationError as error:
            if len(group) == 1:
                failed[group[0].name] = error
                continue
            one_by_one = await _one_by_one(here, flake, output, group, emit)
            found |= one_by_one.found
            failed |= one_by_one.failed
            if not one_by_one.failed:  # no host alone is at fault
                raise
    return Evaluation(found, failed)


def grouped(flake: str, hosts: Sequence[Host]) -> Iterator[tuple[str, list[Host]]]:
    """Group the hosts for one command each: of one flake output, and no more than fit in a command line argument."""
    for output in dict.fromkeys(_output(flake, host) for host in hosts):
        group: list[Host] = []
        length = 0
        for host in (host for host in hosts if _output(flake, host) == output):
            added = len(nix.pick(host.name, host.attr).encode()) + 1
            if group and length + added > nix.LONGEST:
                yield output, group
                group, length = [], 0
            group.append(host)
            length += added
        yield output, group


def _output(flake: str, host: Host) -> str:
    """Return the flake output that has the host's system. A file is evaluated as a whole: its output is empty."""
    return "" if is_expression(flake) else host.attr[0]


async def _one_by_one(here: Machine, flake: str, output: str, hosts: Sequence[Host], emit: Emit) -> Evaluation:
    """Evaluate each host alone, `WORKERS` of them at once."""
    found: dict[HostName, Evaluated] = {}
    failed: dict[HostName, EvaluationError] = {}
    workers = asyncio.Semaphore(WORKERS)

    async def alone(host: Host) -> None:
        async with workers:
            try:
                found.update(await _together(here, flake, output, [host], emit))
            except EvaluationError as error:
                failed[host.name] = error

    async with asyncio.TaskGroup() as group:
        for host in hosts:
            group.create_task(alone(host))
    return Evaluation(found, failed)


async def _together(
    here: Machine, flake: str, output: str, hosts: Sequence[Host], emit: Emit
) -> dict[HostName, Evaluated]:
    """Evaluate the hosts with one command. Raise `EvaluationError` if one of them fails."""
    command = nix.evaluate(flake, output, {host.name: host.attr[1:] if output else host.attr for host in hosts})

    failed = False

    def show(line: str) -> None:  # the error itself is reported at the end
        nonlocal failed
        failed = failed or _is_error(line)
        if not failed and not line.startswith(IGNORED):
            emit(OutputLine(host=None, phase=Phase.EVALUATE, text=line))

    try:
        result = await here.run(command, on_line=show)
    except HostError as error:
        raise EvaluationError(error.message, said=error.said, hint="is nix on your PATH?") from error
    if result.status != 0:
        names = ", ".join(host.name for host in hosts)
        what = f"{flake}#{output}" if output else flake
        raise EvaluationError(f"{names}: Nix could not evaluate {what}", said=_error_of(result.stderr))
    try:
        pairs = nix.read_evaluation(result.stdout)
    except ValueError as error:
        names = ", ".join(host.name for host in hosts)
        raise EvaluationError(f"{names}: what Nix printed cannot be read: {error}") from error
    return {host.name: _evaluated(host, pairs.get(host.name)) for host in hosts}


def _evaluated(host: Host, found: tuple[Derivation, Closure] | None) -> Evaluated:
    """Return what a host evaluates to, as Nix printed it. Raise `EvaluationError` if that is nothing to deploy."""
    if found is None:
        raise EvaluationError(f"{host.name}: Nix printed nothing of this host")
    if nix.is_placeholder(found[1]):
        message = f"{host.name}: its system is content-addressed: its path is not known before it is built"
        raise EvaluationError(message, hint="set nixpkgs.config.contentAddressedByDefault = false for the system")
    if found[1][_HASH:].startswith(DEPLOY_RS):
        raise EvaluationError(
            f"{host.name}: {'.'.join(host.attr)} is deploy-rs's wrapper around a system (activate-rs), and no system",
            hint=f"attr of the host must lead to the system itself, such as {'.'.join(default_attribute(host.name))}",
        )
    return Evaluated(*found)


def _error_of(stderr: str) -> tuple[str, ...]:
    """Return Nix's own message: the last 20 lines from the first one that says error."""
    lines = stderr.splitlines()
    lines = [line for line in lines if not line.startswith(IGNORED)]
    begins = (index for index, line in enumerate(lines) if _is_error(line.lstrip()) or line.startswith("fatal: "))
    start = next(begins, 0)  # git, which Nix runs, calls it fatal
    return tuple(lines[start:][-20:])


def _is_error(line: str) -> bool:
    return line.startswith("error") and not line.startswith(IGNORED)
