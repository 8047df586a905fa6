"""Build the closures of all hosts with one Nix command, each derivation once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import BuildError, HostError
from fleet.events import OutputLine
from fleet.model import Phase
from fleet.text import how_it_ended

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fleet.events import Emit
    from fleet.machine import Machine
    from fleet.model import HostName
    from fleet.steps.evaluate import Evaluated


async def build(
    here: Machine, wanted: Mapping[HostName, Evaluated], *, root: Path, emit: Emit
) -> dict[HostName, BuildError]:
    """Build what is wanted, and return an error for each host whose closure does not exist afterwards.

    Closures that exist are kept by the roots `root`, `root-2`, …; the folder of `root` must exist. The build log is
    emitted line by line as Nix writes it. Raise `BuildError` if Nix fails though all closures exist.
    """
    derivations = list(dict.fromkeys(each.derivation for each in wanted.values()))
    if not derivations:
        return {}

    def show(line: str) -> None:
        emit(OutputLine(host=None, phase=Phase.BUILD, text=line))

    try:
        result = await here.run(nix.realise(derivations, root=root), on_line=show)
    except HostError as error:
        raise BuildError(error.message, said=error.said) from error
    if result.status == 0:
        return {}
    culprits = nix.failed_derivations(result.stderr)
    log = tuple(line for line in result.stderr.splitlines() if line.strip())[-20:]
    hint = foreign(result.stderr) or _log_hint(culprits)
    failed = {
        name: BuildError(f"{name}: Nix could not build {one.derivation}", said=log, hint=hint)
        for name, one in wanted.items()
        if not await _is_valid(here, one.closure)
    }
    if not failed:  # all closures exist, so something else went wrong: roots that cannot be written, for example
        raise BuildError(f"nix-store {how_it_ended(result.status)}", said=log)
    good = list(dict.fromkeys(each.derivation for name, each in wanted.items() if name not in failed))
    if good:  # these are built, but a failed command leaves no roots
        await here.run(nix.realise(good, root=root))
    return failed


def build_failure(failed: Mapping[HostName, BuildError]) -> BuildError:
    """Combine the errors of several hosts into one: their builds have one log."""
    first = next(iter(failed.values()))
    return BuildError(f"{', '.join(failed)}: Nix could not build", said=first.said, hint=first.hint)


async def _is_valid(here: Machine, path: str) -> bool:
    """Whether the path is complete in the local store."""
    missing = await here.run(nix.missing([path]))
    return missing.status == 0 and not missing.stdout.strip()


_FOREIGN = re.compile(r"error: a '([\w-]+)' with features .* is required to build|Required system: '([\w-]+)'")
"""How Nix says that no machine it knows can build for a system: up to 2.29 and since."""


def foreign(stderr: str) -> str:
    """Return what to do if nothing here can build for a host's system; nothing if that is not what Nix complains of."""
    if (found := _FOREIGN.search(stderr)) is None:
        return ""
    system = found[1] or found[2]
    return (
        f'to build for {system} here: boot.binfmt.emulatedSystems = [ "{system}" ], or a remote builder; '
        'or let the host build it, with build_on = "target"'
    )


def _log_hint(culprits: tuple[str, ...]) -> str:
    return f"the whole log: nix-store --read-log {culprits[0]}" if culprits else ""
