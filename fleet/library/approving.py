"""Look at somebody else's plan as if they could not be trusted: fetch its commit, evaluate it, and compare.

Nothing of the plan or of its flake decides how that is done: Nix options, hooks and checks are those of the approver's
own fleet.toml, evaluation is pure, and settings that a flake brings along are not taken.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import EvaluationError, PolicyError
from fleet.events import OutputLine
from fleet.inventory.origins import is_expression
from fleet.library.served import STRICT
from fleet.library.terms import own_terms, remarks_on
from fleet.library.tools import LocalNix
from fleet.machine.local import LocalMachine
from fleet.source.remote import Copies
from fleet.source.tree import in_work_tree
from fleet.steps.evaluate import evaluate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.events import Event
    from fleet.inventory import Host, Inventory
    from fleet.library.tools import Tools
    from fleet.machine import Machine
    from fleet.model import HostName
    from fleet.plans import Part, Plan
    from fleet.steps.evaluate import Evaluated, Evaluation


@dataclass(frozen=True)
class Origin:
    """Where hosts of a plan come from: a commit, in the approver's own copy of the repository."""

    copies: Copies
    root: Path
    """The top of the approver's own work tree."""
    inside: str
    """The folder of the flake in there; empty for the top."""
    revision: str

    @property
    def flake(self) -> str:
        """The reference of the flake at the commit."""
        return self.copies.flake(self.revision, self.inside)


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What an approver's own machine has found out about a plan: it brings the systems that its commits make."""

    remarks: tuple[str, ...]
    """Where the plan's terms are not those of the approver's fleet.toml."""
    evaluated: Mapping[HostName, Evaluated]
    origins: Mapping[Origin, tuple[Host, ...]]


async def examine(tools: Tools, plan: Plan, *, remote: str | None, rebuild: bool) -> Examined:
    """Fetch and evaluate what the plan was made from, and return what was found.

    `remote` is the repository that the approver's policy names; None if it names none. With `rebuild` contents are
    compared, too. Raise `PolicyError` if the plan cannot be approved: it was made from something else, or brings
    commands that the approver's fleet.toml has not.
    """
    for name in plan.hosts:
        _require_source(plan, plan.parts[name])
        own_terms(plan.parts[name], tools.inventory)
    origins = await _origins(tools, plan, plan.hosts, remote)
    evaluated = await _same_systems(tools, plan, origins)
    if rebuild:
        with tempfile.TemporaryDirectory(prefix="fleet-rebuild-") as folder:
            await _require_same_contents(tools, plan, Path(folder))
    return Examined(remarks=tuple(remarks_on(plan, tools.inventory)), evaluated=evaluated, origins=origins)


async def require_same_systems(tools: Tools, plan: Plan, hosts: Sequence[HostName], *, remote: str) -> None:
    """Raise `PolicyError` if the plan brings these hosts something else than what its commits make."""
    for name in hosts:
        _require_source(plan, plan.parts[name])
    await _same_systems(tools, plan, await _origins(tools, plan, hosts, remote))


def _require_source(plan: Plan, part: Part) -> None:
    """Raise `PolicyError` if nobody can tell what the part's system is made of."""
    source = plan.source_of(part.host)
    if part.derivation is None:
        hint = "plan a deployment of the commit that it was made from"
        raise PolicyError(f"{part.host}: the plan does not say what {part.closure} is built from", hint=hint)
    if not source.is_clean or not source.revision:
        hint = "commit all of it, push it, and plan again"
        raise PolicyError(f"{part.host}: what is not committed cannot be approved", hint=hint)


async def _origins(
    tools: Tools, plan: Plan, hosts: Sequence[HostName], remote: str | None
) -> dict[Origin, tuple[Host, ...]]:
    """Fetch the commits that these hosts come from, and return those with their hosts."""
    fleet = tools.inventory
    found: dict[Origin, tuple[Host, ...]] = {}
    for reference, group in fleet.by_reference([fleet.hosts[name] for name in hosts]).items():
        root, inside = await _own_place(tools.here, fleet, reference)
        copies = Copies(tools.here, remote or str(root))
        for revision in dict.fromkeys(plan.source_of(host.name).revision for host in group):
            await copies.bring(revision, str(root))
            of = tuple(host for host in group if plan.source_of(host.name).revision == revision)
            found[Origin(copies, root, inside, revision)] = of
    return found


async def _own_place(here: Machine, fleet: Inventory, reference: str) -> tuple[Path, str]:
    """Return the approver's own work tree of a flake, and the folder of the flake in there.

    Raise `PolicyError` if it is in no git work tree here, or is evaluated impurely.
    """
    if is_expression(reference):
        raise PolicyError(
            f"{reference}: evaluation of a file reads whatever it likes, and cannot be repeated",
            hint="a flake that imports it is evaluated purely",
        )
    place = await in_work_tree(here, reference)
    if place is None:
        hint = "clone the repository, and use the fleet.toml in there"
        raise PolicyError(f"{fleet.path}: the flake {reference} is in no git work tree of this machine", hint=hint)
    folder, root = place
    inside = folder.resolve().relative_to(root.resolve())
    return root, "" if inside == Path() else inside.as_posix()


async def _same_systems(
    tools: Tools, plan: Plan, origins: Mapping[Origin, Sequence[Host]]
) -> dict[HostName, Evaluated]:
    """Evaluate the hosts, and return what they evaluate to. Raise `PolicyError` if the plan brings something else."""
    found: dict[HostName, Evaluated] = {}
    for origin, hosts in origins.items():
        evaluation = await evaluate_purely(tools, origin.flake, hosts)
        for name, error in evaluation.failed.items():
            message = f"{name}: the commit {origin.revision[:12]} does not evaluate here"
            raise PolicyError(message, said=error.said, hint=error.hint)
        found |= evaluation.found
    for name, here in found.items():
        part = plan.parts[name]
        if (here.derivation, here.closure) != (part.derivation, part.closure):
            raise PolicyError(
                f"{name}: the plan brings another system than its commit makes",
                said=[f"planned: {part.derivation} -> {part.closure}", f"here:    {here.derivation} -> {here.closure}"],
                hint="it was made from something else, or with Nix options that decide: do not approve it",
            )
    return found


async def evaluate_purely(tools: Tools, flake: str, hosts: Sequence[Host]) -> Evaluation:
    """Evaluate hosts of a flake that somebody else wrote. Raise `PolicyError` if Nix cannot do that at all."""
    events: list[Event] = []
    with tempfile.TemporaryDirectory(prefix="fleet-nix-") as folder:
        # There Nix remembers the settings of flakes that the person has once said yes to.
        here = LocalNix({**tools.inventory.nix_options, **STRICT}, LocalMachine({"XDG_DATA_HOME": folder}))
        try:
            return await evaluate(here, flake, hosts, emit=events.append)
        except EvaluationError as error:
            said = error.said or tuple(event.text for event in events if isinstance(event, OutputLine))[-5:]
            raise PolicyError(error.message, said=said, hint=error.hint) from error


async def _require_same_contents(tools: Tools, plan: Plan, folder: Path) -> None:
    """Build each system here, or fetch it from where this machine's Nix fetches, and compare its contents.

    What was built has roots in `folder`. Raise `PolicyError` if something differs, or cannot be built.
    """
    from fleet import nix
    from fleet.steps.load import contents_of

    for part in {part.closure: part for part in plan.parts.values() if part.manifest}.values():
        assert part.derivation is not None
        built = await tools.here.run(nix.realise([part.derivation], root=folder / Path(part.closure).name))
        if built.status != 0:
            message = f"{part.host}: {part.derivation} cannot be built here"
            raise PolicyError(message, said=built.stderr.splitlines()[-10:])
        async with tools.new_supply() as supply:
            contents = await contents_of(tools.here, supply, part.closure)
        if contents.manifest != part.manifest:
            raise PolicyError(
                f"{part.host}: what is built here has other contents than what the plan brings",
                said=[f"planned: {part.manifest}", f"here:    {contents.manifest}"],
                hint="something in it does not reproduce, or its builder has changed it: find out which",
            )


def require_approver(tools: Tools, plan: Plan) -> str:
    """Return the name under which this process approves. Raise `PolicyError` if it is no person."""
    from fleet.policy import PrincipalKind

    actor = tools.actor
    if actor.kind is PrincipalKind.PERSON:
        return actor.name
    kind = f"of kind {actor.kind}" if actor.kind is not None else "nobody in principals.toml"
    raise PolicyError(f"{actor.name} is {kind}, and only people can approve {plan.digest[:12]}")
