"""The mesh of a fleet: what mesh.toml says, and the public keys that hosts have made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.inventory.mesh import load_mesh, mesh_file
from fleet.library.meshing import mesh_keys
from fleet.library.reading import ignore

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.errors import FleetError
    from fleet.inventory import Host, Inventory
    from fleet.inventory.mesh import Mesh
    from fleet.library.meshing import MeshKey
    from fleet.library.reading import OnWait
    from fleet.library.tools import Tools
    from fleet.model import HostName


class FleetMesh:
    """The mesh of one fleet. Nothing here changes anything: `fleet mesh keys` writes mesh.toml."""

    def __init__(self, tools: Tools, inventory: Inventory, select: Callable[..., tuple[Host, ...]]) -> None:
        self._tools = tools
        self._inventory = inventory
        self._select = select

    def read(self) -> Mesh | None:
        """Return what mesh.toml says; None if there is none. No host is contacted.

        Raise `ConfigError` with all that is wrong with it.
        """
        return load_mesh(mesh_file(self._inventory.path))

    async def keys(self, *selectors: str, on_wait: OnWait = ignore) -> dict[HostName, MeshKey | FleetError]:
        """Return the public key that each of these hosts has made, or why it has none of its own.

        Raise `ConfigError` if mesh.toml cannot be read: a key may be that of another host in it.
        """
        hosts = self._select(*selectors)
        return await mesh_keys(self._tools.logins, self._inventory, hosts, self.read(), on_wait=on_wait)
