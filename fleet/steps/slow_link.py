"""Push over a slow link: send deltas against what the host has already, and whole paths where that does not work."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import CommandFailedError
from fleet.events import FindingReported
from fleet.files import cache_folder
from fleet.model import NOTHING, Closure, Severity
from fleet.steps.deliver import SERVE, Transport, WholePaths
from fleet.store.deltas.bases import Bases, estimate
from fleet.store.deltas.cache import Cache
from fleet.store.nar import ChangedError
from fleet.store.send import Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet.events import Emit
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host
    from fleet.machine import Machine, Output, Stream
    from fleet.store.deltas.frames import Frames
    from fleet.store.deltas.groups import Group
    from fleet.store.deltas.send import DeltaSender
    from fleet.store.send import Progress
    from fleet.store.supply import Supply
    from fleet.store.wire import PathInfo

MOST_DOUBTS = 3
"""How many times a base may seem to be at fault before no base is used for the rest of the push."""
UNFIT = 69
"""Exit status of `receive` on a host that cannot run it."""
INSTALL = "pip install 'fleet[delta]', or set link = \"fast\" for this host"
INSTALL_THERE = "every NixOS has it unless environment.corePackages was changed"
FULL = ("No space left on device", "database or disk is full")


class SlowLinks:
    """What all pushes over slow links share. Nothing is loaded before the first of them."""

    def __init__(self, supply: Supply, cache: Callable[[], Cache] = lambda: Cache(cache_folder("deltas"))) -> None:
        self.supply = supply
        self._cache = cache
        self._frames: Frames | None = None
        self._known: dict[tuple[Closure | None, ...], list[PathInfo]] = {}

    async def __aenter__(self) -> SlowLinks:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._frames is not None:
            await self._frames.close()

    def obstacle(self, facts: HostFacts) -> tuple[str, str] | None:
        """Return why pushes to the host are not compressed, and what would help; None if they are compressed."""
        try:
            self._loaded()
        except ImportError:
            return "this machine cannot compress for a slow link: what is pushed goes as it is", INSTALL
        if not facts.has_zstd:
            return "the host has no zstd: what is pushed goes as it is", INSTALL_THERE
        return None

    async def transport(self, machine: Machine, host: Host, facts: HostFacts, *, emit: Emit) -> Transport:
        """Return the transport to the host: deltas, or whole paths if there is an obstacle."""
        if self.obstacle(facts):
            return WholePaths()
        return DeltaTransport(host, self._loaded(), Bases(await self._paths_there(machine, facts)), emit)

    async def estimate(self, machine: Machine, facts: HostFacts, infos: Sequence[PathInfo]) -> int:
        """Return about how many bytes a push of these paths sends to the host. There must be no obstacle."""
        there = await self._paths_there(machine, facts)
        return estimate({info.path: info.nar_size for info in infos}, [info.path for info in there])

    async def _paths_there(self, machine: Machine, facts: HostFacts) -> list[PathInfo]:
        """Return the paths that the host has and that are known here too.

        Asked once for hosts that have the same systems.
        """
        tops = (facts.running, facts.profile, facts.live, facts.previous, facts.staged)
        if tops not in self._known:
            self._known[tops] = await known_there(machine, self.supply, [top for top in tops if top and top != NOTHING])
        return self._known[tops]

    def _loaded(self) -> Frames:
        """Return the frames of this run, made at the first call. Raise `ImportError` without the package for zstd."""
        from fleet.store.deltas.frames import Frames  # imported here: needs an optional package

        if self._frames is None:
            self._frames = Frames(self._cache())
        return self._frames


async def known_there(machine: Machine, supply: Supply, tops: Sequence[Closure]) -> list[PathInfo]:
    """Return the paths of the given closures, on the host, that are in the local store too.

    `tops` are the closures that the host has roots for, the running one first. The host is asked for the paths of the
    running one if the local store does not have it, as when another machine has pushed it.
    """
    found: dict[str, PathInfo] = {}
    with contextlib.suppress(ChangedError, CommandFailedError):
        for top in tops:
            if top not in found:
                found |= {info.path: info for info in await _closure(supply, top)}
        if tops and tops[0] not in found:
            listed = await machine.run(nix.requisites(tops[0]))
            found |= {info.path: info for info in await supply.known(listed.stdout.split())}
    return list(found.values())


async def _closure(supply: Supply, top: str) -> list[PathInfo]:
    """Return what the local store knows of the path and all that it needs; nothing if it does not have the path."""
    found: dict[str, PathInfo] = {}
    unvisited = {top}
    while unvisited:
        layer = await supply.known(unvisited)
        found |= {info.path: info for info in layer}
        unvisited = {path for info in layer for path in info.references} - found.keys()
    return list(found.values())


class DeltaTransport:
    """Sends what the host lacks as deltas, and whole where they do not work. See `Transport`."""

    def __init__(self, host: Host, frames: Frames, bases: Bases, emit: Emit) -> None:
        self._host = host
        self._frames = frames
        self._bases = bases
        self._emit = emit
        self._doubts = 0
        self._sender: DeltaSender | None = None
        self._is_whole = False

    @property
    def argv(self) -> tuple[str, ...]:
        """See `Transport.argv`."""
        from fleet.store.deltas.send import receiver

        return SERVE if self._is_whole else ("sh", "-c", receiver())

    @property
    def verb(self) -> str:
        """See `Transport.verb`."""
        return "serve" if self._is_whole else "receive"

    def sender(self, stream: Stream, supply: Supply, progress: Progress) -> Sender:
        """See `Transport.sender`."""
        from fleet.store.deltas.send import DeltaSender

        if self._is_whole:
            return Sender(stream, supply, progress)
        self._sender = DeltaSender(stream, supply, progress, self._frames, self._bases)
        return self._sender

    def has_changed(self, ended: Output) -> bool:
        """See `Transport.has_changed`. Both programs write to one stderr, and the one that fails first writes first."""
        if self._is_whole or self._sender is None:
            return False
        lines = (line.strip() for line in ended.stderr.splitlines())
        reason = next((line[:500] for line in lines if line.startswith(("fleet-delta:", "error:"))), "")
        doubtful = self._sender.doubtful()
        if doubtful and reason and not any(words in reason for words in FULL):
            self._doubt(doubtful)
            return True
        if reason.startswith("fleet-delta:"):
            reason = reason.removeprefix("fleet-delta:").strip()
            hint = f"the host needs zstd 1.4.5 or later; {INSTALL_THERE}"
            message = "the host cannot read" if ended.status != UNFIT else "the host cannot take"
            _note(self._host, f"{message} what is compressed ({reason}): it goes as it is", hint, self._emit)
            self._is_whole = True
            return True
        return False

    def _doubt(self, groups: Sequence[Group]) -> None:
        """Stop using the bases of these groups, and stop using any base after `MOST_DOUBTS` calls."""
        self._frames.forget(groups)
        bases = sorted({part.info.path for group in groups for part in group.base})
        self._bases.forget(bases)
        self._doubts += 1
        if self._doubts == MOST_DOUBTS:
            self._bases.give_up()
        message = f"a difference did not fit to what the host has of {_some(bases)}: that is sent without"
        _note(self._host, message, "nix-store --verify --check-contents there tells whether it is damaged", self._emit)


def _some(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def _note(host: Host, message: str, hint: str, emit: Emit) -> None:
    emit(FindingReported(host=host.name, severity=Severity.NOTE, kind="slow_link", message=message, hint=hint))
