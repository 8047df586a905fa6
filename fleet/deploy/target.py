"""Find out which closure each host should get: evaluated, given by its path, or one that ran before."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet import nix
from fleet.deploy.evaluating import Known, evaluated_groups
from fleet.errors import ConfigError, EvaluationError, UnfitError
from fleet.events import EvaluationFinished, FindingReported
from fleet.host import answers
from fleet.host.program import HostProgram, ask
from fleet.inventory import BuildOn
from fleet.model import Closure, Severity
from fleet.plans import OtherSource, Source
from fleet.source import evaluations, tree
from fleet.source.options import require_known
from fleet.source.revision import at_commit, source_of
from fleet.steps.build import build, build_failure
from fleet.steps.evaluate import Evaluated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fleet.deploy.context import Context
    from fleet.deploy.options import Options
    from fleet.events import Emit
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host, Inventory
    from fleet.machine import Machine
    from fleet.model import HostName
    from fleet.source.evaluations import Evaluations


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The closure that a host should get, and where it comes from."""

    closure: Closure
    evaluated: Evaluated | None = None
    """None if the closure is built already."""
    is_local: bool = True
    """Whether the closure is, or will be, in the local store."""

    @property
    def is_built_there(self) -> bool:
        """Whether the host builds it itself."""
        return self.evaluated is not None and not self.is_local


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What each host should get."""

    wanted: dict[HostName, Wanted]
    failed: Mapping[HostName, EvaluationError] = field(default_factory=dict)
    """The hosts that do not evaluate."""
    source: Source = field(default_factory=Source)
    """What was evaluated, where it is not in `other_sources`."""
    other_sources: tuple[OtherSource, ...] = ()
    evaluated: EvaluationFinished | None = None
    """What there is to tell of that."""


async def choose_targets(context: Context, fleet: Inventory, hosts: Sequence[Host], options: Options) -> Choice:
    """Choose a new closure for every host.

    Raise `EvaluationError` if nothing can be evaluated at all, and `ConfigError` if a given closure is not here, or if
    Nix does not know an option of the fleet.
    """
    if options.closure is not None:
        closure = await require_local(context.here, options.closure)
        return Choice(wanted={host.name: Wanted(closure=closure) for host in hosts})
    if options.late:
        return await _choose_late(context.here, hosts, options)
    return await _evaluate_all(context, fleet, hosts, options)


async def _choose_late(here: Machine, hosts: Sequence[Host], options: Options) -> Choice:
    """Choose what was evaluated earlier. What is not here any more fails for its host alone."""
    wanted, failed = {}, {}
    for host in hosts:
        try:
            wanted[host.name] = await _wanted_late(here, host, options)
        except ConfigError as error:
            failed[host.name] = EvaluationError(error.message, hint=error.hint)
    if options.amends is None:
        return Choice(wanted=wanted, failed=failed)
    old = options.amends
    return Choice(wanted=wanted, failed=failed, source=old.source, other_sources=old.other_sources)


async def _wanted_late(here: Machine, host: Host, options: Options) -> Wanted:
    late = options.late.get(host.name)
    if late is None:
        raise ConfigError(f"{host.name}: the plan that is amended brings nothing to it")
    if late.derivation is None:
        return Wanted(closure=await require_local(here, late.closure))
    evaluated = Evaluated(derivation=late.derivation, closure=late.closure)
    return Wanted(closure=late.closure, evaluated=evaluated, is_local=host.build_on is BuildOn.CONTROLLER)


async def closures_of(
    here: Machine, fleet: Inventory, hosts: Sequence[Host], *, folder: Path, cache: Evaluations | None, emit: Emit
) -> dict[HostName, Closure]:
    """Build the closure of each host, with roots in `folder`, and return them.

    Raise `ConfigError`, `EvaluationError` or `BuildError`.
    """
    evaluation = await _evaluated(here, fleet, fleet.by_reference(hosts), cache, emit)
    if evaluation.failed:
        raise combined(evaluation.failed)
    failed = await build(here, evaluation.found, root=folder / "closure", emit=emit)
    if failed:
        raise build_failure(failed)
    return {host.name: evaluation.found[host.name].closure for host in hosts}


async def require_local(here: Machine, closure: Closure) -> Closure:
    """Return the closure if it is complete in the local store. Raise `ConfigError` if it is not.

    A link such as `result` is followed.
    """
    if not closure.startswith("/nix/store/"):
        closure = Closure(os.path.realpath(closure))  # noqa: ASYNC240 - one readlink
    if not is_store_path(closure := Closure(closure.rstrip("/"))):
        raise ConfigError(f"--closure {closure}: is not a store path", hint="nix build prints one, and links to it")
    answer = await here.run(nix.missing([closure]))
    if answer.status != 0 or answer.stdout.strip():
        raise ConfigError(f"--closure {closure}: is not in this machine's store", hint="nix copy --from fetches it")
    return closure


async def _evaluate_all(context: Context, fleet: Inventory, hosts: Sequence[Host], options: Options) -> Choice:
    """Evaluate the hosts, and return what each should get."""
    started = time.monotonic()
    cache = evaluations.users_own() if options.eval_cache else None
    groups, commits = fleet.by_reference(hosts), {}
    if options.revision:
        commits = {reference: await at_commit(context.here, reference, options.revision) for reference in groups}
    asked = {commits[reference].flake if commits else reference: group for reference, group in groups.items()}
    evaluation = await _evaluated(context.here, fleet, asked, cache, context.journal.emit)
    derivations = {name: found.derivation for name, found in evaluation.found.items()}
    seconds = time.monotonic() - started
    done = EvaluationFinished(derivations=derivations, recalled=len(evaluation.recalled), seconds=seconds)
    wanted = {
        host.name: Wanted(
            closure=evaluation.found[host.name].closure,
            evaluated=evaluation.found[host.name],
            is_local=host.build_on is BuildOn.CONTROLLER,
        )
        for host in hosts
        if host.name in evaluation.found
    }
    source, *others = [
        OtherSource(
            hosts=tuple(host.name for host in group),
            source=commits[reference].source if commits else await source_of(context.here, reference),
        )
        for reference, group in groups.items()
    ]
    return Choice(
        wanted=wanted, failed=evaluation.failed, source=source.source, other_sources=tuple(others), evaluated=done
    )


async def _evaluated(
    here: Machine, fleet: Inventory, groups: Mapping[str, Sequence[Host]], cache: Evaluations | None, emit: Emit
) -> Known:
    """Evaluate hosts by reference with the options of the fleet, and report what people should know of these."""
    await require_known(here, fleet.path, fleet.nix_options)
    if fleet.nix_options:
        given = ", ".join(f"{name} = {value}" for name, value in fleet.nix_options.items())
        emit(FindingReported(host=None, severity=Severity.NOTE, kind="nix_options", message=f"Nix runs with {given}"))
    for reference in groups:
        await _note_unseen(here, reference, emit)
    return await evaluated_groups(here, groups, cache=cache, options=fleet.nix_options, emit=emit)


async def _note_unseen(here: Machine, flake: str, emit: Emit) -> None:
    """Report the files that Nix will not see: it may be meant so, and where it is not, evaluation fails."""
    found = await tree.look(here, flake)
    for note in tree.unseen(found) if found else ():
        emit(FindingReported(host=None, severity=Severity.NOTE, kind=note.kind, message=note.message, hint=note.hint))


def combined(failed: Mapping[HostName, EvaluationError]) -> EvaluationError:
    """Combine the errors of several hosts into one that names them all, each with what Nix wrote."""
    if len(failed) == 1:
        return next(iter(failed.values()))
    errors = list(failed.values())
    hint = next((error.hint for error in errors if error.hint), "")
    if len({(error.message, *error.said) for error in errors}) == 1:  # Nix itself is at fault, and no host
        return EvaluationError(errors[0].message, said=errors[0].said, hint=hint)
    said = [
        line
        for name, error in failed.items()
        for line in (f"{name}:", *(f"  {text}" for text in error.said or [error.message]))
    ]
    return EvaluationError(f"Nix could not evaluate {', '.join(failed)}", said=said, hint=hint)


def is_store_path(text: str) -> bool:
    """Whether the text is the path of a store object, with nothing below it."""
    return re.fullmatch(r"/nix/store/[0-9a-z]{32}-[^/\s]+", text) is not None


def is_number(text: str) -> bool:
    """Whether the text is the number of a generation: digits that everybody reads, and no more than a few."""
    return re.fullmatch(r"[0-9]{1,18}", text) is not None


def require_rollback_target(back_to: str | None) -> None:
    """Raise `ConfigError` for text that is neither the number of a generation nor a store path."""
    if back_to is not None and not is_number(back_to) and not is_store_path(back_to):
        raise ConfigError(f"--to {back_to[:80]}: is neither the number of a generation nor a store path")


async def rollback_target(host: Host, facts: HostFacts, machine: Machine, back_to: str | None) -> Closure:
    """Return what the host ran before: the last system, or the one with that number or path.

    Raise `UnfitError` if the host does not have it any more.
    """
    if back_to is None:
        if facts.previous is None:
            hint = f"fleet generations {host.name} lists what is there; go to one with --to"
            raise UnfitError(host.name, "nothing is recorded to go back to", hint=hint)
        return facts.previous
    if not is_number(back_to):
        absent = await machine.run(nix.missing([back_to]))
        if absent.status != 0 or absent.stdout.strip():
            hint = f"fleet generations {host.name} lists what is there; fleet deploy --closure brings what is not"
            raise UnfitError(host.name, f"{back_to} is not in this host's store", hint=hint)
        return Closure(back_to)
    generations = answers.generations(await ask(machine, host, HostProgram().call("generations")))
    for generation in generations:
        if generation.number == int(back_to):
            return generation.closure
    numbers = ", ".join(str(generation.number) for generation in generations)
    raise UnfitError(host.name, f"there is no generation {back_to}", hint=f"there are: {numbers}")
