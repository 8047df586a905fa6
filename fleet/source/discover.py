"""Find out which hosts a flake or a file configures, and what the outputs of colmena and deploy-rs say of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleet import nix
from fleet.errors import EvaluationError, HostError
from fleet.inventory.origins import FILE, is_expression
from fleet.scripts import expression
from fleet.source import tree
from fleet.source.remedies import explained
from fleet.text import parsed_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.machine import Machine, Output

WORKERS = 2
"""Evaluations at once when each host is evaluated alone."""
KINDS = ("configurations", "nodes", "raw", "deploy")
Data = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Discovered:
    """What is there. Each mapping has an entry for each host, as `scripts/hosts.nix` describes it."""

    configurations: Mapping[str, Data] = field(default_factory=dict)
    """NixOS configurations: those of `nixosConfigurations`, or of a file's attribute set."""
    nodes: Mapping[str, Data] = field(default_factory=dict)
    """The nodes of colmena's evaluated hive."""
    raw: Mapping[str, Data] = field(default_factory=dict)
    """The nodes of the output `colmena`, which colmena alone can evaluate."""
    deploy: Mapping[str, Data] = field(default_factory=dict)
    """The nodes of deploy-rs."""
    broken: Mapping[str, str] = field(default_factory=dict)
    """Hosts that do not evaluate, with the reason that Nix gives, on one line."""
    hive: str | None = None
    """The output that is the hive; empty if the value of the file is the hive itself."""
    has_configurations: bool = False
    """Whether there is an output `nixosConfigurations`."""
    is_raw_hive: bool = False
    """Whether it is a file with a hive as people write it for colmena, which colmena alone can evaluate."""


async def discover(here: Machine, reference: str) -> Discovered:
    """Return what a flake in a folder, or the expression in a file, configures.

    That is one evaluation. A host that throws does not hide the others: only hosts that do not evaluate are evaluated
    once more, alone, for the reason. Raise `EvaluationError` if not even the names of the hosts can be told.
    """
    try:
        return await _discover(here, await _with_scheme(here, reference))
    except EvaluationError as error:
        raise await explained(here, reference, error) from error


async def _discover(here: Machine, reference: str) -> Discovered:
    answer = await _ask(here, reference)
    broken: dict[str, str] = {}
    if answer.status == 0:
        found = _read(answer)
    else:  # an error that Nix lets nobody catch: whose is it?
        found, broken = await _one_by_one(here, reference, answer)
    thrown = [name for name in _names(found) if name not in broken and not _evaluates(found, name)]
    broken |= await _reasons(here, reference, thrown)
    return Discovered(
        **{kind: found[kind] for kind in KINDS},
        broken=broken,
        hive=found["hiveIs"],
        has_configurations=found["hasConfigurations"],
        is_raw_hive=found["isRawHive"],
    )


async def _with_scheme(here: Machine, reference: str) -> str:
    """Return the reference of a flake in a folder so that `builtins.getFlake` takes the files that commands take.

    Older versions take all files in a folder that has no scheme, also what git does not know.
    """
    folder = tree.folder_of(reference)
    if folder is None:
        return reference
    root = await tree.work_tree(here, reference, folder)
    if root is None:
        return f"path:{folder}"
    inside = folder.resolve().relative_to(root.resolve())
    return f"git+file://{root.resolve()}" + (f"?dir={inside}" if inside.parts else "")


async def _one_by_one(here: Machine, reference: str, whole: Output) -> tuple[Data, dict[str, str]]:
    """Return what is found of each host alone, and the reasons of those of whom nothing is.

    Raise `EvaluationError`, which tells what `whole` says, if there are no names to ask for.
    """
    names = await _ask(here, reference, "namesOnly = true;")
    if names.status != 0:
        raise EvaluationError("Nix cannot tell which hosts are configured", said=_error_lines(whole.stderr))
    listed = _read(names)
    answers = await _each(here, reference, _names(listed))
    found = {**listed, **{kind: {} for kind in KINDS}}
    broken = {}
    for name, answer in answers.items():
        if answer.status != 0:
            broken[name] = _reason(answer.stderr)
            continue
        alone = _read(answer)
        for kind in KINDS:
            found[kind] |= alone[kind]
    return found, broken


async def _reasons(here: Machine, reference: str, names: Iterable[str]) -> dict[str, str]:
    """Return why these hosts do not evaluate."""
    answers = await _each(here, reference, names, "strict = true;")
    return {
        name: _reason(answer.stderr) if answer.status else "it has no config.system.build.toplevel"
        for name, answer in answers.items()
    }


async def _each(here: Machine, reference: str, names: Iterable[str], more: str = "") -> dict[str, Output]:
    """Ask for each host alone, `WORKERS` of them at once."""
    workers = asyncio.Semaphore(WORKERS)

    async def ask(name: str) -> Output:
        async with workers:
            return await _ask(here, reference, f"only = [ {nix.quoted(name)} ]; {more}")

    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(ask(name)) for name in names}
    return {name: task.result() for name, task in tasks.items()}


async def _ask(here: Machine, reference: str, arguments: str = "") -> Output:
    if is_expression(reference):
        arguments += " isFile = true;"
        given = f"import (/. + {nix.quoted(reference.removeprefix(FILE))})"
    else:
        given = f"(builtins.getFlake {nix.quoted(reference)}).outputs"
    whole = f"({expression('fleet.source', 'hosts')}) {{ {arguments} }} ({given})"
    try:
        return await here.run(nix.evaluate_expression(whole))
    except HostError as error:
        raise EvaluationError(error.message, said=error.said, hint="is nix on your PATH?") from error


def _read(answer: Output) -> Data:
    """Return what Nix printed. Raise `EvaluationError` if it is something else."""
    try:
        found = parsed_json(answer.stdout)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(found.get(kind), dict) for kind in KINDS):
        raise EvaluationError("Nix printed something else than what is configured")
    return found


def _names(found: Data) -> list[str]:
    return sorted({name for kind in KINDS for name in found[kind]})


def _evaluates(found: Data, name: str) -> bool:
    """Whether the system of the host evaluates as far as it was looked at. A host without one does."""
    node = found["nodes"].get(name)
    looked_at = node["configuration"] if node is not None else found["configurations"].get(name)
    return looked_at is None or bool(looked_at["evaluates"])


def _error_lines(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.strip()][-12:]


def _reason(stderr: str) -> str:
    """Return the line in which Nix says what is wrong."""
    lines = [line.strip() for line in stderr.splitlines() if line.lstrip().startswith("error:")]
    words = lines[-1].removeprefix("error:").strip() if lines else ""
    return words or next(iter(_error_lines(stderr)), "Nix does not say why")
