"""Find what comes from this machine's store for each host of a plan: closures, and the models beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import BuildError, UnfitError
from fleet.steps import models
from fleet.steps.load import Contents, contents_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.deploy.context import Context
    from fleet.deploy.look import HostContacts
    from fleet.deploy.target import Wanted
    from fleet.inventory import Host
    from fleet.model import Closure, HostName


class FoundContents:
    """What closures of the local store consist of, each looked at once, with the models beside them."""

    def __init__(self, context: Context, contacts: HostContacts) -> None:
        self._context = context
        self._contacts = contacts
        self._models = models.Models(context.here, context.supply, context.folder)
        self._contents: dict[Closure, Contents] = {}
        self._beside: dict[HostName, Contents] = {}

    async def find(self, hosts: Iterable[Host], wanted: Mapping[HostName, Wanted]) -> None:
        """Look at what these hosts should get, and fetch their models. A host that cannot have its models is left out.

        Raise `ConfigError` if a closure is not here, or a model is not what the system says.
        """
        for host in hosts:
            try:
                await self._find(host, wanted[host.name])
            except (BuildError, UnfitError) as error:
                self._contacts.leave_out(host, error)

    async def _find(self, host: Host, wanted: Wanted) -> None:
        closure = wanted.closure
        if wanted.is_local:
            models.require_no_gate(host, models.models_of(closure))
            if closure not in self._contents:
                found = await contents_of(self._context.here, self._context.supply, closure)
                self._contents[closure] = await self._models.complete(closure, found)
        elif wanted.is_built_there and wanted.evaluated is not None:
            models.require_no_gate(host, models.models_of_derivation(wanted.evaluated.derivation))
            self._beside[host.name] = await self._models.beside(closure, wanted.evaluated.derivation)

    def of(self, host: Host, wanted: Wanted) -> Contents | None:
        """Return what is brought to the host: the whole closure, or the models alone if it builds the rest."""
        return self._beside.get(host.name) if wanted.is_built_there else self._contents.get(wanted.closure)
