"""What the host's own caches have of a closure: asked for the plan, and fetched by the host itself before the push.

Not left to the push: a cache that cannot be reached ends `nix-store --serve` and `nix copy` alike (seen with Nix 2.8,
where its nix-cache-info is remembered). Here it only means that more is pushed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import CommandFailedError, UnreachableError
from fleet.events import FindingReported, HostFetched, OutputLine
from fleet.host.program import bringing
from fleet.model import Phase, Severity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.events import Emit
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import RunId

INSTEAD = "what they do not give is pushed instead; substitute = false for this host asks them nothing"


@dataclass(frozen=True)
class Caches:
    """What the host's own caches say they have."""

    paths: tuple[str, ...] = ()
    download: int = 0
    """Bytes, compressed as the caches have them."""
    trouble: str = ""
    """Why they could not be asked, if they could not."""


async def ask_caches(machine: Machine, missing: Sequence[str]) -> Caches:
    """Which of the paths the host can fetch by itself. One question; caches that do not answer have nothing."""
    asked = [path for path in missing if not path.endswith(".drv")]  # of those, Nix would tell what it can build
    try:
        answer = await machine.run(nix.substitutable(asked))
    except CommandFailedError as error:
        return Caches(trouble=error.message)
    if answer.status != 0:
        return Caches(trouble=_last_error(answer.stderr) or f"nix-store ended with exit status {answer.status}")
    found, download = nix.read_substitutable(answer.stderr)
    return Caches(tuple(path for path in asked if path in found), download)


async def fetch(machine: Machine, host: Host, sizes: Mapping[str, int], run: RunId, *, emit: Emit) -> frozenset[str]:
    """The host has fetched from its own caches what they gave of the paths, whose NAR bytes are `sizes`.

    Returns what it still lacks: a cache may have lost it meanwhile, or may not be trusted.
    """
    if not sizes:
        return frozenset()
    started = time.monotonic()

    def show(line: str) -> None:
        emit(OutputLine(host=host.name, phase=Phase.PUSH, text=line))

    trouble = ""
    try:
        fetched = await machine.run(bringing(nix.fetch(sizes), run), on_line=show)
        if fetched.status != 0:
            trouble = _last_error(fetched.stderr) or f"nix-store ended with exit status {fetched.status}"
        lacks = await machine.run(nix.missing(sizes))
    except (CommandFailedError, UnreachableError) as error:  # the push finds out what is there, and what is not
        trouble, lost = error.message, frozenset(sizes)
    else:
        lost = frozenset(path for path in lacks.stdout.split() if path in sizes)
    if lost:
        message = f"the host could not fetch {len(lost)} of {len(sizes)} paths from its own caches"
        text = f"{message}: {trouble}" if trouble else message
        emit(FindingReported(host=host.name, severity=Severity.NOTE, kind="caches", message=text, hint=INSTEAD))
    there = [size for path, size in sizes.items() if path not in lost]
    emit(HostFetched(host=host.name, paths=len(there), nar_bytes=sum(there), seconds=time.monotonic() - started))
    return lost


def _last_error(stderr: str) -> str:
    errors = [line.strip() for line in stderr.splitlines() if line.lstrip().startswith("error:")]
    return errors[-1].removeprefix("error:").strip() if errors else ""
