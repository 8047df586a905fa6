"""One build command for all derivations; equal ones are built once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import BuildError, HostError
from fleet.events import OutputLine
from fleet.model import Phase

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
    """Every closure exists in the local store, kept by roots `root`, `root-2`, …, but for the hosts that are returned.

    `root`'s folder must exist. The build log goes out line by line while it is written.
    """
    derivations = list(dict.fromkeys(one.derivation for one in wanted.values()))
    if not derivations:
        return {}

    def show(line: str) -> None:
        emit(OutputLine(host=None, phase=Phase.BUILD, text=line))

    try:
        result = await here.run(nix.build(derivations, root=root), on_line=show)
    except HostError as error:
        raise BuildError(error.message, said=error.said) from error
    if result.status == 0:
        return {}
    guilty = nix.failed_derivations(result.stderr)
    said = tuple(line for line in result.stderr.splitlines() if line.strip())[-20:]
    failed = {
        name: BuildError(f"{name}: Nix could not build {one.derivation}", said=said, hint=_log_hint(guilty))
        for name, one in wanted.items()
        if not await _is_valid(here, one.closure)
    }
    if not failed:  # everything is there, and yet it failed: the roots could not be written, say
        raise BuildError(f"nix-store failed with exit status {result.status}", said=said)
    good = list(dict.fromkeys(one.derivation for name, one in wanted.items() if name not in failed))
    if good:  # they are built, and the failure has left them without roots
        await here.run(nix.build(good, root=root))
    return failed


def build_failure(failed: Mapping[HostName, BuildError]) -> BuildError:
    """One error for all: their logs are one log."""
    first = next(iter(failed.values()))
    return BuildError(f"{', '.join(failed)}: Nix could not build", said=first.said, hint=first.hint)


async def _is_valid(here: Machine, path: str) -> bool:
    missing = await here.run(nix.missing([path]))
    return missing.status == 0 and not missing.stdout.strip()


def _log_hint(guilty: tuple[str, ...]) -> str:
    return f"the whole log: nix-store --read-log {guilty[0]}" if guilty else ""
