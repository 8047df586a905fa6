"""Bring closures to where all workers reach them, and from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet import nix
from fleet.errors import ConfigError
from fleet.inventory import BuildOn

if TYPE_CHECKING:
    from fleet.deploy.available import Fetch
    from fleet.library.tools import Tools
    from fleet.plans import Part, Plan


def _paths(plan: Plan) -> tuple[list[str], list[str]]:
    """Return the closures that workers push, and the derivations that hosts build themselves."""
    parts = plan.parts.values()
    derivations = dict.fromkeys(part.derivation for part in parts if part.build_on is BuildOn.TARGET)
    return list(dict.fromkeys(part.closure for part in parts if part.manifest)), [each for each in derivations if each]


async def give(tools: Tools, plan: Plan) -> None:
    """Copy what the plan needs to the cache of the workers, if fleet.toml names one. Raise `ConfigError`."""
    cache = tools.inventory.workers.cache
    if cache is None:
        return
    for paths, is_derivation in zip(_paths(plan), (False, True), strict=True):
        if not paths:
            continue
        copied = await tools.here.run(nix.copy_by_way_of(cache, "--to", paths, derivation=is_derivation))
        if copied.status != 0:
            said = copied.stderr.splitlines()[-5:]
            raise ConfigError(f"the closures cannot be copied to {cache}", said=said, hint="[workers] cache names it")


def fetcher(tools: Tools) -> Fetch | None:
    """Return what fetches the closure of a part from the cache, where it has it; None if there is no cache.

    Nix checks signatures, and whoever uses what came compares its contents with the plan.
    """
    cache = tools.inventory.workers.cache
    if cache is None:
        return None

    async def fetch(part: Part) -> None:
        if part.manifest:
            await tools.here.run(nix.copy_by_way_of(cache, "--from", [part.closure]))
        elif part.derivation is not None:
            await tools.here.run(nix.copy_by_way_of(cache, "--from", [part.derivation], derivation=True))

    return fetch
