"""See that this machine has what the parts of a plan need, made of what was planned. What one host needs, others do."""

from __future__ import annotations

import asyncio
from pathlib import PurePath
from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import ConfigError
from fleet.inventory import BuildOn
from fleet.steps.load import Contents, contents_of
from fleet.steps.models import Models

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from fleet.machine import Machine
    from fleet.model import Closure, Derivation
    from fleet.plans import Part
    from fleet.store.supply import Supply

    Fetch = Callable[[Part], Awaitable[None]]


class Available:
    """The closures of a plan on this machine, each looked at once."""

    def __init__(self, here: Machine, supply: Supply, folder: Path, fetch: Fetch | None = None) -> None:
        """`folder` gets the roots. `fetch` brings what a part needs from elsewhere, if it can; it is asked first."""
        self._here = here
        self._supply = supply
        self._folder = folder
        self._models = Models(here, supply, folder)
        self._fetch = fetch
        self._known: dict[Closure, asyncio.Task[Contents]] = {}
        self._derivations: set[str] = set()
        self.signed: set[Closure] = set()
        """The closures that were signed here."""

    async def contents(self, part: Part) -> Contents:
        """Return what the closure of the part is made of. It is fetched or built first if it is not here.

        Raise `ConfigError` if it cannot be had, or is not made of what was planned.
        """
        task = self._known.get(part.closure)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._known[part.closure] = asyncio.ensure_future(self._find(part))
        return await asyncio.shield(task)

    async def _find(self, part: Part) -> Contents:
        if self._fetch is not None:
            await self._fetch(part)
        await self._make_available(part.closure, part.derivation)
        contents = await contents_of(self._here, self._supply, part.closure)
        if contents.manifest != part.manifest:
            raise ConfigError(
                f"{part.closure}: its contents in this machine's store are not those that were planned",
                hint="it was built elsewhere, and does not reproduce: copy it from there, or plan again here",
            )
        return await self._models.complete(part.closure, contents)

    async def beside(self, part: Part) -> Contents | None:
        """Return the models that come beside the system of a part which its host builds itself; None if it does not.

        Raise `ConfigError` if its derivation is not in this machine's store, and `BuildError` if a model cannot be
        fetched. The system is not built here: the host may be of another kind.
        """
        derivation = part.derivation if part.build_on is BuildOn.TARGET else None
        if derivation is None:
            return None
        if derivation not in self._derivations:
            await self._require_derivation(part, derivation)
        return await self._models.beside(part.closure, derivation)

    async def _require_derivation(self, part: Part, derivation: Derivation) -> None:
        if self._fetch is not None:
            await self._fetch(part)
        if not await self._is_in_local_store(derivation):
            hint = "nix copy --derivation --from the machine that made the plan, or plan again here"
            raise ConfigError(f"{derivation} is not in this machine's store", hint=hint)
        self._derivations.add(derivation)

    async def _make_available(self, path: str, derivation: str | None) -> None:
        """Fetch or build the path if it is not in the local store, and root it for the run.

        Raise `ConfigError` if it can be neither fetched nor built.
        """
        root = self._folder / PurePath(path).name  # each path has a root of its own
        for attempt in (path, derivation):
            if attempt is None:
                continue
            realised = await self._here.run(nix.realise([attempt], root=root))
            if realised.status == 0 and await self._is_in_local_store(path):
                return
        hint = "nix copy --from the machine that made the plan, and apply it again"
        raise ConfigError(f"{path} is not in this machine's store, and cannot be fetched or built", hint=hint)

    async def _is_in_local_store(self, path: str) -> bool:
        """Return whether the path is in this machine's store."""
        missing = await self._here.run(nix.missing([path]))
        return missing.status == 0 and not missing.stdout.strip()
