"""Let hosts of one site have from each other what a run brings, so that it crosses the link to their site once.

One of them gets it first, and gives the others what they lack, by a token for each, while they fetch it. No host gets a
login on another. The receiver takes no path with another hash than the controller says. What goes wrong is pushed.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import HostError, PushError, UnreachableError
from fleet.events import FindingReported
from fleet.inventory.values import host_and_port
from fleet.machine import Command
from fleet.model import Severity
from fleet.scripts import one_line
from fleet.steps.deliver import MOST_UNASKED
from fleet.store import wire
from fleet.store.nar import ChangedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from fleet.events import Emit
    from fleet.inventory import Host
    from fleet.machine import Link
    from fleet.model import HostName
    from fleet.steps.job import Job
    from fleet.store.supply import Supply
    from fleet.store.wire import PathInfo

LEAST = MOST_UNASKED
"""Bytes below which it is quicker to push."""
PAUSE = 60.0
SLOWEST = 2 << 20
"""A fetch has this many seconds, and a second for so many bytes: hosts of a site are near each other."""
LATE = 20.0
"""Seconds after which nobody waits any more for a host to end a fetch that is out of time."""


class Sites:
    """Who has at each site what one run brings."""

    def __init__(self) -> None:
        self._givers: dict[str, asyncio.Future[Host | None]] = {}

    @contextlib.asynccontextmanager
    async def around(
        self, job: Job, links: Mapping[HostName, Link], supply: Supply, *, emit: Emit
    ) -> AsyncIterator[None]:
        """Be around the push to a host: before it, the host has from another one at its site what that one has.

        The first host of a site that can give goes ahead, and the others wait for it.
        """
        host = job.host
        if not host.site or host.gate or job.load.push_bytes < LEAST:
            yield
            return
        giver = await self._giver(host.site)
        if giver is not None:
            await _fetch(job, giver, links, supply, emit)
        if giver is not None or host.site_address is None:
            yield
            return
        coming = self._givers[host.site] = asyncio.get_running_loop().create_future()
        has_it = False
        try:
            yield
            has_it = True
        finally:
            if not has_it:
                del self._givers[host.site]
            coming.set_result(host if has_it else None)

    async def _giver(self, site: str) -> Host | None:
        """Return the host at the site that has got what the run brings. Wait for one that is getting it."""
        while (coming := self._givers.get(site)) is not None:
            if (giver := await asyncio.shield(coming)) is not None:
                return giver
        return None


async def _fetch(job: Job, giver: Host, links: Mapping[HostName, Link], supply: Supply, emit: Emit) -> None:
    """Let the host of the job have from the giver what that has of its load. Report what came of it."""
    host = job.host
    begun = time.monotonic()
    try:
        try:
            infos = await _taken(job, giver, links, supply)
        except UnreachableError as error:
            if error.host != giver.name:
                raise
            infos = await _taken(job, giver, links, supply)  # its own part has ended, which closes its connection
        size = sum(info.nar_size for info in infos)
        if not infos:
            return
    except (HostError, ChangedError, OSError) as error:
        message = f"nothing came from {giver.name}, so it is pushed: {error}"
        emit(FindingReported(host=host.name, severity=Severity.NOTE, kind="site", message=message, hint=""))
    else:
        seconds = time.monotonic() - begun
        message = f"got {len(infos)} paths with {size >> 20} MiB from {giver.name} in {seconds:.1f} s"
        emit(FindingReported(host=host.name, severity=Severity.NOTE, kind="site", message=message, hint=""))


async def _taken(job: Job, giver: Host, links: Mapping[HostName, Link], supply: Supply) -> list[PathInfo]:
    """Let the host have from the giver what that has of its load, by a token of its own. Return what came."""
    source = links[giver.name]
    infos = await _given(source, await supply.infos(job.load.pushed))
    size = sum(info.nar_size for info in infos)
    if size < LEAST:
        return []
    async with _opened(source, giver, infos, limit := PAUSE + size / SLOWEST) as token:
        await _receive(links[job.host.name], giver, infos, token, limit)
    return infos


async def _given(source: Link, infos: Sequence[PathInfo]) -> list[PathInfo]:
    """Return those of the paths that the source has, in the order in which a store takes them."""
    absent = set((await source.run(nix.missing(info.path for info in infos))).stdout.split())
    return [info for info in wire.in_order(infos) if info.path not in absent]


@contextlib.asynccontextmanager
async def _opened(source: Link, giver: Host, infos: Sequence[PathInfo], limit: float) -> AsyncIterator[str]:
    """Let the giver give these paths, in this order, to whoever knows the token, while inside."""
    token = secrets.token_hex(32)
    port = str(host_and_port(giver.site_address)[1])
    serve, close = one_line("fleet.steps", "site-serve"), one_line("fleet.steps", "site-close")
    argv = ("sh", "-c", one_line("fleet.steps", "site-open"), "sh", token, port, serve, close, str(round(limit)))
    stdin = "".join(f"{info.path}\n" for info in infos).encode()
    try:
        opened = await source.run(Command(argv=argv, stdin=stdin, timeout=PAUSE, name="open a door for the site"))
        if opened.status != 0:
            raise PushError(giver.name, f"cannot listen on port {port}", said=opened.stderr.splitlines()[-3:])
        yield token
    finally:
        with contextlib.suppress(HostError):  # the giver takes it back by itself, too
            await source.run(Command(argv=("sh", "-c", close, "sh", token), timeout=PAUSE))


async def _receive(machine: Link, giver: Host, infos: Sequence[PathInfo], token: str, limit: float) -> None:
    """Let the host fetch these paths from the giver, and take those alone that have the hashes that we know."""
    address, port = host_and_port(giver.site_address)
    announced = [wire.add_to_store_nar(info) for info in infos]
    lines = (f"{len(head)} {info.nar_size}\n".encode() + head for head, info in zip(announced, infos, strict=True))
    argv = (
        "timeout",
        str(round(limit)),
        "bash",
        "-c",
        one_line("fleet.steps", "site-fetch"),
        "bash",
        address,
        str(port),
        token,
    )
    stdin = wire.hello() + b"".join(lines)
    name = f"fetch from {giver.name}"
    done = await machine.run(Command(argv=argv, stdin=stdin, timeout=limit + LATE, name=name))
    if done.status != 0:
        said = done.stderr.splitlines()
        reason = next((line for line in said if "error" in line), said[-1] if said else f"exit status {done.status}")
        raise PushError(giver.name, reason.strip())
