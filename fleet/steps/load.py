"""Find out what a host lacks of a closure, and where it gets it from: its own caches, or the push."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import ConfigError, PushError
from fleet.plans import Forecast
from fleet.plans.manifest import manifest, manifest_lines, printed
from fleet.steps.caches import Caches, ask_caches
from fleet.steps.gated import compare_contents
from fleet.store.nar import ChangedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import Closure
    from fleet.steps.models import Model
    from fleet.store.supply import Supply


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a closure consists of."""

    sizes: Mapping[str, int]
    """Its store paths, each with its NAR size in bytes."""
    manifest: str
    """The digest over all of its paths and their hashes."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """The hash of the NAR of each path of the closure, in base 16."""
    models: tuple[Model, ...] = ()
    """The models that the system names. Those beside it are in `sizes`, and not in the manifest."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a host lacks of a closure, and what bringing it takes. Sizes are in bytes."""

    missing: tuple[str, ...] = ()
    """Store paths that the host lacks."""
    missing_bytes: int = 0
    """The NAR size of the missing paths."""
    substitutes: Mapping[str, int] = field(default_factory=dict)
    """The missing paths that the host fetches from its own caches, each with its NAR size."""
    download_bytes: int = 0
    """The size of that download."""
    caches_trouble: str = ""
    """Why the caches could not be asked. Empty if they could."""
    wire_bytes: int = 0
    """What pushing the rest sends over the link."""
    push_seconds: float | None = None
    """How long the push takes, in seconds; None if that cannot be known."""
    room_needed: int = 0
    """The space needed on the disk that /nix is on."""
    models: tuple[str, ...] = ()
    """The store paths of the models beside the system, also of those that the host has."""
    manifest: str = ""
    """The lines of the closure's manifest, where the host has other contents than these and takes them all the same."""

    @property
    def pushed(self) -> tuple[str, ...]:
        """The missing paths that the host does not fetch."""
        return tuple(path for path in self.missing if path not in self.substitutes)

    @property
    def push_bytes(self) -> int:
        """The NAR size of the paths that are pushed."""
        return self.missing_bytes - sum(self.substitutes.values())

    def forecast(self, *, room_free: int) -> Forecast:
        """Return the numbers for a plan. `room_free` is the free space of /nix on the host, in bytes."""
        return Forecast(
            missing_paths=len(self.missing),
            missing_bytes=self.missing_bytes,
            substitute_paths=len(self.substitutes),
            substitute_bytes=sum(self.substitutes.values()),
            download_bytes=self.download_bytes,
            wire_bytes=self.wire_bytes,
            push_seconds=self.push_seconds,
            room_needed=self.room_needed,
            room_free=room_free,
        )


async def contents_of(here: Machine, supply: Supply, closure: Closure) -> Contents:
    """Return what the closure consists of, from the local store. Raise `ConfigError` if it is not complete there."""
    listed = await here.run(nix.requisites(closure))
    trouble = listed.stderr.splitlines()[-5:]
    infos = []
    if listed.status == 0:
        try:
            infos = await supply.infos(listed.stdout.split())
        except (ChangedError, OSError) as error:
            trouble = [str(error)]
    if not infos:
        raise ConfigError(f"{closure} is not in this machine's store", said=trouble, hint="nix copy it here first")
    return Contents(
        sizes={info.path: info.nar_size for info in infos},
        manifest=manifest((info.path, info.nar_hash) for info in infos),
        hashes={info.path: info.nar_hash for info in infos},
    )


async def load_of(machine: Machine, host: Host, contents: Contents) -> Load:
    """Ask the host what it lacks, and what of that its own caches have.

    Raise `PushError` if the host's store does not answer, and `UnfitError` if its gate would refuse what it has.
    """
    answer = await machine.run(nix.missing(contents.sizes))
    if answer.status != 0:
        raise PushError(host.name, "the host's store does not answer", said=answer.stderr.splitlines()[-5:])
    missing = tuple(path for path in answer.stdout.split() if path in contents.sizes)
    caches = await ask_caches(machine, missing) if missing and host.substitute else Caches()
    left = contents.hashes.keys() - missing if host.gate else ()
    there = {path: printed(contents.hashes[path]) for path in left}
    differs = await compare_contents(machine, host, there) if there else False
    return Load(
        missing=missing,
        missing_bytes=sum(contents.sizes[path] for path in missing),
        substitutes={path: contents.sizes[path] for path in caches.paths},
        download_bytes=caches.download,
        caches_trouble=caches.trouble,
        models=tuple(model.path for model in contents.models if model.is_beside),
        manifest=manifest_lines(contents.hashes.items()) if differs else "",
    )
