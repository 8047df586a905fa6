"""Pushing over a thin link: what is like it on the host already, and another way when this one does not work."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import CommandFailedError
from fleet.events import FindingReported
from fleet.files import cache_folder
from fleet.model import Closure, Severity
from fleet.steps.deliver import SERVE, Way, Whole
from fleet.store.nar import ChangedError
from fleet.store.send import Sender
from fleet.store.thin.bases import Bases, estimate
from fleet.store.thin.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet.events import Emit
    from fleet.host.answers import HostFacts
    from fleet.inventory import Host
    from fleet.machine import Machine, Output, Stream
    from fleet.store.send import Progress
    from fleet.store.supply import Supply
    from fleet.store.thin.frames import Frames
    from fleet.store.thin.groups import Group
    from fleet.store.thin.send import ThinSender
    from fleet.store.wire import PathInfo

MOST_DOUBTS = 3
"""Times that a base may have been at fault, after which none is used for the rest of the push."""
UNFIT = 69
"""Exit status of `receive` where the host is not fit for it."""
INSTALL = "pip install 'fleet[delta]', or set link = \"fast\" for this host"
INSTALL_THERE = "every NixOS has it unless environment.corePackages was changed"
FULL = ("No space left on device", "database or disk is full")


class Thin:
    """What pushes over thin links share. Nothing is loaded before the first of them."""

    def __init__(self, supply: Supply, cache: Callable[[], Cache] = lambda: Cache(cache_folder("thin"))) -> None:
        self.supply = supply
        self._cache = cache
        self._frames: Frames | None = None
        self._known: dict[tuple[Closure | None, ...], list[PathInfo]] = {}

    async def __aenter__(self) -> Thin:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._frames is not None:
            await self._frames.close()

    def obstacle(self, facts: HostFacts) -> tuple[str, str] | None:
        """Why what is pushed to the host goes as it is, and what helps; None where it is compressed."""
        try:
            self._loaded()
        except ImportError:
            return "this machine cannot compress for a thin link: what is pushed goes as it is", INSTALL
        if not facts.has_zstd:
            return "the host has no zstd: what is pushed goes as it is", INSTALL_THERE
        return None

    async def way(self, machine: Machine, host: Host, facts: HostFacts, *, emit: Emit) -> Way:
        """How to push to the host. Where there is an obstacle, as over any other link."""
        if self.obstacle(facts):
            return Whole()
        return ThinWay(host, self._loaded(), Bases(await self._there(machine, facts)), emit)

    async def estimate(self, machine: Machine, facts: HostFacts, infos: Sequence[PathInfo]) -> int:
        """About how many bytes it takes to push these paths to the host, where there is no obstacle."""
        there = await self._there(machine, facts)
        return estimate({info.path: info.nar_size for info in infos}, [info.path for info in there])

    async def _there(self, machine: Machine, facts: HostFacts) -> list[PathInfo]:
        tops = (facts.running, facts.profile, facts.live, facts.previous, facts.staged)
        if tops not in self._known:
            self._known[tops] = await known_there(machine, self.supply, [top for top in tops if top])
        return self._known[tops]

    def _loaded(self) -> Frames:
        from fleet.store.thin.frames import Frames  # needs a package that not everybody has

        if self._frames is None:
            self._frames = Frames(self._cache())
        return self._frames


async def known_there(machine: Machine, supply: Supply, tops: Sequence[Closure]) -> list[PathInfo]:
    """What the closures are made of that the host has roots for, the one that it runs first, as far as it is here too.

    What it runs is asked about only where it is not in the local store: another machine may have pushed it.
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
    """What the local store knows about all that the path needs; nothing where it lacks the path."""
    found: dict[str, PathInfo] = {}
    front = {top}
    while front:
        layer = await supply.known(front)
        found |= {info.path: info for info in layer}
        front = {path for info in layer for path in info.references} - found.keys()
    return list(found.values())


class ThinWay:
    """See `Way`: what the host lacks goes as differences, and whole where they do not work."""

    def __init__(self, host: Host, frames: Frames, bases: Bases, emit: Emit) -> None:
        self._host = host
        self._frames = frames
        self._bases = bases
        self._emit = emit
        self._doubts = 0
        self._sender: ThinSender | None = None
        self._is_whole = False

    @property
    def argv(self) -> tuple[str, ...]:
        """See `Way.argv`."""
        from fleet.store.thin.send import receiver

        return SERVE if self._is_whole else ("sh", "-c", receiver())

    def sender(self, stream: Stream, supply: Supply, progress: Progress) -> Sender:
        """See `Way.sender`."""
        from fleet.store.thin.send import ThinSender

        if self._is_whole:
            return Sender(stream, supply, progress)
        self._sender = ThinSender(stream, supply, progress, self._frames, self._bases)
        return self._sender

    def is_another(self, ended: Output) -> bool:
        """See `Way.is_another`. What fails first says so first, on the one stderr of both programs."""
        if self._is_whole or self._sender is None:
            return False
        said = (line.strip() for line in ended.stderr.splitlines())
        reason = next((line for line in said if line.startswith(("fleet-thin:", "error:"))), "")
        doubtful = self._sender.doubtful()
        if doubtful and reason and not any(words in reason for words in FULL):
            self._doubt(doubtful)
            return True
        if reason.startswith("fleet-thin:"):
            reason = reason.removeprefix("fleet-thin:").strip()
            hint = f"the host needs zstd 1.4.5 or later; {INSTALL_THERE}"
            message = "the host cannot read" if ended.status != UNFIT else "the host cannot take"
            _tell(self._host, f"{message} what is compressed ({reason}): it goes as it is", hint, self._emit)
            self._is_whole = True
            return True
        return False

    def _doubt(self, groups: Sequence[Group]) -> None:
        """What these were made against is no base any more, or nothing is."""
        self._frames.forget(groups)
        bases = sorted({part.info.path for group in groups for part in group.base})
        self._bases.forget(bases)
        self._doubts += 1
        if self._doubts == MOST_DOUBTS:
            self._bases.give_up()
        message = f"a difference did not fit to what the host has of {_some(bases)}: that is sent without"
        _tell(self._host, message, "nix-store --verify --check-contents there tells whether it is damaged", self._emit)


def _some(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def _tell(host: Host, message: str, hint: str, emit: Emit) -> None:
    emit(FindingReported(host=host.name, severity=Severity.NOTE, kind="thin_link", message=message, hint=hint))
