"""Make container images of what a fleet runs, or of its packages, and bring them to engines."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleet import nix
from fleet.deploy.target import require_local
from fleet.errors import BuildError, ConfigError
from fleet.images import MOST_LAYERS, host_recipe, packages, program_recipe, write_image
from fleet.images.loading import Place, load
from fleet.library.governed import NOTHING
from fleet.library.reading import ignore
from fleet.library.tools import new_run_id
from fleet.machine.local import HERE
from fleet.machine.pipe import LocalStreams
from fleet.model import Closure, HostName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.events import Emit
    from fleet.images import Image, Recipe
    from fleet.images.loading import Loaded
    from fleet.inventory import Host
    from fleet.library.judging import Judge, Plea
    from fleet.library.reader import FleetReader
    from fleet.library.tools import Tools
    from fleet.store.wire import PathInfo


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What an image is to be made of, and how it is to be divided."""

    what: str
    """A host, a package of the flake, or a store path."""
    program: str = ""
    """Which program a container runs; empty for the package's own. Hosts have none."""
    system: str = ""
    """What a store path is built for; empty for this machine's system."""
    most_layers: int = MOST_LAYERS


class Imager:
    """Makes images of one fleet."""

    def __init__(self, tools: Tools, reader: FleetReader, judge: Judge) -> None:
        self._tools = tools
        self._reader = reader
        self._judge = judge

    async def build(self, wish: Wish, file: Path, *, on_event: Emit = ignore) -> Image:
        """Write the image of a closure to the file, and return what it is. No host is contacted.

        Raise `ConfigError` if there is no such thing, or if the file cannot be written; `EvaluationError` or
        `BuildError` if it cannot be built.
        """
        with self._tools.state.hold(new_run_id(), is_new=True) as folder:
            recipe = await self._recipe(wish, folder, on_event)
            answer = await self._tools.here.run(nix.requisites(recipe.top))
            async with self._tools.new_supply() as supply:
                infos = await supply.infos(answer.stdout.split())
            return await asyncio.to_thread(_write, file, infos, recipe, wish.most_layers)

    async def load(
        self,
        image: Image,
        file: Path,
        *,
        on: HostName | None = None,
        engine: str = "",
        plea: Plea = NOTHING,
    ) -> Loaded:
        """Bring the image in the file to Docker or podman, here or on a host, which has it afterwards.

        Raise `PolicyError` where policy.toml forbids to run commands on the host, `UnfitError` if there is no engine,
        and another `HostError` if the image does not arrive.
        """
        if on is None:
            here = Place(name=HERE, machine=self._tools.here, stream=LocalStreams().stream, root=False)
            return await load(here, image, file, engine=engine)
        await self._judge.require_act("exec", [on], plea)
        async with self._tools.links([self._tools.inventory.hosts[on]]) as links:
            place = Place(name=on, machine=links[on], stream=links[on].stream)
            return await load(place, image, file, engine=engine)

    async def _recipe(self, wish: Wish, folder: Path, emit: Emit) -> Recipe:
        """Build what the image is made of, with roots in the folder, and return the recipe of the image."""
        host = self._tools.inventory.hosts.get(HostName(wish.what))
        if host is not None:
            return await self._host(host, wish, emit)
        if "/" in wish.what:
            top = await require_local(self._tools.here, Closure(wish.what))
            name, program, system = packages.name_of(top), "", wish.system or await self._own_system()
        else:
            found = await self._package(wish.what, folder)
            top, name, program, system = Closure(found.top), found.name, found.program, found.system
        runs = packages.program_in(top, wish.program or program, name)
        return program_recipe(_repository(name), top, system, runs)

    async def _host(self, host: Host, wish: Wish, emit: Emit) -> Recipe:
        if wish.program:
            raise ConfigError(f"--program: {host.name} is a host, whose own init runs", hint="leave it out")
        top = (await self._reader.build(host.name, on_event=emit))[host.name]
        if not (Path(top) / "init").exists():
            raise ConfigError(
                f"{host.name}: its closure has no init, and no container can boot it",
                hint="images of hosts are for NixOS; an image of a package runs its program",
            )
        return host_recipe(_repository(host.name), top, host.system)

    async def _package(self, attribute: str, folder: Path) -> packages.Package:
        fleet = self._tools.inventory
        found = await packages.find(self._tools.here, fleet.expression or fleet.flake, attribute)
        done = await self._tools.here.run(nix.realise([found.derivation], root=folder / "image"))
        if done.status != 0:
            log = tuple(line for line in done.stderr.splitlines() if line.strip())[-20:]
            raise BuildError(f"{attribute}: Nix could not build {found.derivation}", said=log)
        return found

    async def _own_system(self) -> str:
        return (await self._tools.here.run(nix.CURRENT_SYSTEM)).stdout.strip().strip('"')


def _write(file: Path, infos: Sequence[PathInfo], recipe: Recipe, most: int) -> Image:
    """Write the image in place of the file, or leave that as it was."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        draft = Path(name)
        try:
            with os.fdopen(handle, "w+b") as opened:
                image = write_image(opened, infos, recipe, most=most)
                os.fchmod(handle, 0o644)
            draft.replace(file)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"{file}: the image cannot be written: {error.strerror}") from error
    return image


def _repository(name: str) -> str:
    """Return the name as engines for containers allow it: lower-case letters, digits, and single marks in between."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "image"
