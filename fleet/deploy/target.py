"""Which closure each host should get: evaluated, given, or one that ran before."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet import nix
from fleet.deploy.evaluating import evaluated
from fleet.errors import ConfigError, EvaluationError, FleetError, UnfitError
from fleet.events import EvaluationFinished, FindingReported
from fleet.host import answers
from fleet.host.program import HostProgram, ask
from fleet.inventory import BuildOn
from fleet.model import Closure, Severity
from fleet.source import tree
from fleet.steps.build import build, build_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from fleet.deploy.request import Run
    from fleet.events import Emit
    from fleet.host.answers import HostFacts
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import Derivation, HostName
    from fleet.source.evaluations import Evaluations
    from fleet.steps.evaluate import Evaluated

    LeaveOut = Callable[[Host, FleetError], None]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The closure that a host should get, and where it comes from."""

    closure: Closure
    evaluated: Evaluated | None = None
    """None where it is built already."""
    is_local: bool = True
    """Whether it is, or will be, in the local store."""

    @property
    def derivation_to_send(self) -> Derivation | None:
        """What the host itself builds."""
        return self.evaluated.derivation if self.evaluated and not self.is_local else None


async def choose_targets(run: Run, hosts: Sequence[Host], leave: LeaveOut) -> dict[HostName, Wanted]:
    """A new closure for every host that is not left out."""
    if not hosts:
        return {}
    if run.request.closure is not None:
        closure = await given(run.here, run.request.closure)
        return {host.name: Wanted(closure=closure) for host in hosts}
    return await _evaluated(run, hosts, leave)


async def closures_of(
    here: Machine, flake: str, hosts: Sequence[Host], *, folder: Path, cache: Evaluations | None, emit: Emit
) -> dict[HostName, Closure]:
    """The closure of each host, built and rooted in `folder`. Raises EvaluationError or BuildError."""
    evaluation = await evaluated(here, flake, hosts, cache=cache, emit=emit)
    if evaluation.failed:
        raise together(evaluation.failed)
    failed = await build(here, evaluation.found, root=folder / "closure", emit=emit)
    if failed:
        raise build_failure(failed)
    return {host.name: evaluation.found[host.name].closure for host in hosts}


async def given(here: Machine, closure: Closure) -> Closure:
    """The closure, if it is complete in the local store. A link to it, such as `result`, is followed."""
    if not closure.startswith("/nix/store/"):
        closure = Closure(os.path.realpath(closure))  # noqa: ASYNC240 - one readlink
    if not is_store_path(closure := Closure(closure.rstrip("/"))):
        raise ConfigError(f"--closure {closure}: is not a store path", hint="nix build prints one, and links to it")
    answer = await here.run(nix.missing([closure]))
    if answer.status != 0 or answer.stdout.strip():
        raise ConfigError(f"--closure {closure}: is not in this machine's store", hint="nix copy --from fetches it")
    return closure


async def _evaluated(run: Run, hosts: Sequence[Host], leave: LeaveOut) -> dict[HostName, Wanted]:
    started = time.monotonic()
    await _note_unseen(run)
    evaluation = await evaluated(run.here, run.inventory.flake, hosts, cache=run.evaluations, emit=run.emit)
    if evaluation.failed and not run.request.keep_going:
        raise together(evaluation.failed)
    for host in hosts:
        if host.name in evaluation.failed:
            leave(host, evaluation.failed[host.name])
    derivations = {name: one.derivation for name, one in evaluation.found.items()}
    run.emit(
        EvaluationFinished(
            derivations=derivations, recalled=len(evaluation.recalled), seconds=time.monotonic() - started
        )
    )
    return {
        host.name: Wanted(
            closure=evaluation.found[host.name].closure,
            evaluated=evaluation.found[host.name],
            is_local=host.build_on is BuildOn.CONTROLLER,
        )
        for host in hosts
        if host.name in evaluation.found
    }


async def _note_unseen(run: Run) -> None:
    """People know which files Nix will not see. It may be meant so, and evaluation fails where it is not."""
    found = await tree.look(run.here, run.inventory.flake)
    for one in tree.unseen(found) if found else ():
        run.emit(FindingReported(host=None, severity=Severity.NOTE, kind=one.kind, message=one.message, hint=one.hint))


def together(failed: Mapping[HostName, EvaluationError]) -> EvaluationError:
    """One error that names all the guilty, each with what Nix said of it."""
    if len(failed) == 1:
        return next(iter(failed.values()))
    said = [line for name, error in failed.items() for line in (f"{name}:", *(f"  {text}" for text in error.said))]
    return EvaluationError(f"Nix could not evaluate {', '.join(failed)}", said=said)


def is_store_path(text: str) -> bool:
    """Whether this names something in the store, and nothing below it."""
    return re.fullmatch(r"/nix/store/[0-9a-z]{32}-[^/\s]+", text) is not None


def require_former(back_to: str | None) -> None:
    """Raises `ConfigError` for what cannot name a system that ran before, on any host."""
    if back_to is not None and not back_to.isdigit() and not is_store_path(back_to):
        raise ConfigError(f"--to {back_to}: is neither the number of a generation nor a store path")


async def former(host: Host, facts: HostFacts, machine: Machine, back_to: str | None) -> Closure:
    """What the host ran before: the last, or that of a number or a path. Raises `UnfitError` where it is gone."""
    if back_to is None:
        if facts.previous is None:
            hint = f"fleet generations {host.name} lists what is there; go to one with --to"
            raise UnfitError(host.name, "nothing is recorded to go back to", hint=hint)
        return facts.previous
    if not back_to.isdigit():
        absent = await machine.run(nix.missing([back_to]))
        if absent.status != 0 or absent.stdout.strip():
            hint = f"fleet generations {host.name} lists what is there; fleet deploy --closure brings what is not"
            raise UnfitError(host.name, f"{back_to} is not in this host's store", hint=hint)
        return Closure(back_to)
    there = answers.generations(await ask(machine, host, HostProgram().call("generations")))
    for generation in there:
        if generation.number == int(back_to):
            return generation.closure
    known = ", ".join(str(generation.number) for generation in there)
    raise UnfitError(host.name, f"there is no generation {back_to}", hint=f"there are: {known}")
