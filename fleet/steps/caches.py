"""Use the host's own binary caches: ask them what they have while planning, and let the host fetch it before the push.

This is not left to the push, because a cache that cannot be reached ends both `nix-store --serve` and `nix copy` (seen
with Nix 2.8, if it remembers the nix-cache-info). Here it only means that more is pushed.
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
from fleet.text import how_it_ended, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.events import Emit
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import RunId

INSTEAD = "what they do not give is pushed instead; substitute = false for this host asks them nothing"


@dataclass(frozen=True)
class Caches:
    """What a host's own caches say they have."""

    paths: tuple[str, ...] = ()
    download: int = 0
    """Size of the download in bytes, compressed as the caches have it."""
    trouble: str = ""
    """Why the caches could not be asked. Empty if they could."""


async def ask_caches(machine: Machine, missing: Sequence[str]) -> Caches:
    """Ask the host which of the paths it can fetch by itself, all at once. Caches that do not answer have nothing."""
    # Without derivations, for which Nix answers with what it could build.
    queried = [path for path in missing if not path.endswith(".drv")]
    try:
        answer = await machine.run(nix.substitutable(queried))
    except CommandFailedError as error:
        return Caches(trouble=error.message)
    if answer.status != 0:
        return Caches(trouble=_last_error(answer.stderr) or f"nix-store {how_it_ended(answer.status)}")
    found, download = nix.read_substitutable(answer.stderr)
    return Caches(tuple(path for path in queried if path in found), download)


async def fetch(machine: Machine, host: Host, sizes: Mapping[str, int], run: RunId, *, emit: Emit) -> frozenset[str]:
    """Let the host fetch paths from its own caches. `sizes` has the NAR size of each path in bytes.

    Return the paths that the host lacks still: a cache may have lost one since it was asked, or may not be trusted.
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
            trouble = _last_error(fetched.stderr) or f"nix-store {how_it_ended(fetched.status)}"
        missing = await machine.run(nix.missing(sizes))
    except (CommandFailedError, UnreachableError) as error:  # the push asks again which paths are missing
        trouble, lost = error.message, frozenset(sizes)
    else:
        lost = frozenset(path for path in missing.stdout.split() if path in sizes)
    if lost:
        message = f"the host could not fetch {len(lost)} of {len(sizes)} paths from its own caches"
        text = f"{message}: {trouble}" if trouble else message
        emit(FindingReported(host=host.name, severity=Severity.NOTE, kind="caches", message=text, hint=INSTEAD))
    arrived = [size for path, size in sizes.items() if path not in lost]
    seconds = time.monotonic() - started
    emit(HostFetched(host=host.name, paths=len(arrived), nar_bytes=sum(arrived), seconds=seconds))
    return lost


def _last_error(stderr: str) -> str:
    """Return the message of Nix's last error line, or an empty string."""
    errors = [line.strip() for line in stderr.splitlines() if line.lstrip().startswith("error:")]
    return shortened(errors[-1].removeprefix("error:").strip(), 500) if errors else ""
