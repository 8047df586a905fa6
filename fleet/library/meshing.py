"""Ask hosts for their public keys of the mesh, and find what is wrong with mesh.toml. Nobody reads a private key."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleet.errors import AnswerError, FleetError, UnfitError
from fleet.host import answers
from fleet.host.program import refusal
from fleet.inventory.mesh import address_of, is_member, load_mesh, mesh_file, prefix_of, public_key, write_keys
from fleet.inventory.profiles import computer
from fleet.library.reading import ask_all
from fleet.machine import Command
from fleet.model import Finding, HostName, Severity
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fleet.inventory import Host, Inventory
    from fleet.inventory.mesh import Mesh
    from fleet.library.reading import OnWait
    from fleet.machine import Connector, Link

PUBLIC = "/var/lib/fleet-mesh/public"
"""The file of a host that has its public key: `modules/mesh.nix`."""
LONGEST = 200
"""Bytes of it that are read."""
MOST = 4096
"""Bytes of an answer, which may be a refusal by a gate."""
TIMEOUT = 30.0
KEYS = "fleet mesh keys {} asks for it"
COPIED = "was a disk copied? remove /var/lib/fleet-mesh there, restart fleet-mesh-key.service, and ask again"


@dataclass(frozen=True, kw_only=True)
class MeshKey:
    """What mesh.toml would say of a host, beside what it says."""

    host: Host
    key: str
    known: str | None
    """The key that mesh.toml has; None if it has none."""

    @property
    def name(self) -> HostName:
        """Its name in mesh.toml: that of the computer."""
        return HostName(computer(self.host))

    @property
    def is_known(self) -> bool:
        """Whether mesh.toml has it."""
        return self.key == self.known

    @property
    def remark(self) -> str:
        """What people should know before they agree."""
        if self.known is None:
            return "new"
        return "known" if self.is_known else f"ANOTHER than in mesh.toml, {self.known}"


async def mesh_keys(
    logins: Connector, inventory: Inventory, hosts: Sequence[Host], mesh: Mesh | None, *, on_wait: OnWait
) -> dict[HostName, MeshKey | FleetError]:
    """Return the public key that each host has made for the mesh, or why it has none of its own. Changes nothing."""
    gone = stale(inventory, mesh)
    entries = mesh.hosts.items() if mesh is not None else ()
    known = {name: entry.public_key for name, entry in entries if name not in gone}

    async def ask(host: Host, link: Link) -> MeshKey:
        return MeshKey(host=host, key=await _key(link), known=known.get(HostName(computer(host))))

    found = await ask_all(logins, hosts, ask, on_wait=on_wait)
    owners: dict[str, set[HostName]] = {}
    for name, key in [*known.items(), *((each.name, each.key) for each in found.values() if isinstance(each, MeshKey))]:
        owners.setdefault(key, set()).add(name)
    return {name: _alone(answer, owners) for name, answer in found.items()}


def _alone(found: MeshKey | FleetError, owners: Mapping[str, set[HostName]]) -> MeshKey | FleetError:
    """Return what was found, unless another host has the same key: nobody could tell which of them it is."""
    if isinstance(found, FleetError) or not (others := owners[found.key] - {found.name}):
        return found
    return AnswerError(found.host.name, f"its key for the mesh is also that of {listed(sorted(others))}", hint=COPIED)


async def _key(link: Link) -> str:
    """Return the key, which everybody may read there: so it is asked for without being root."""
    argv = ("head", "-c", str(LONGEST), PUBLIC)
    output = await link.run(Command(argv=argv, timeout=TIMEOUT, most=MOST, root=False, verb=("mesh-key",)))
    name = link.host.name
    if "refused" in (lines := answers.parse(output.stdout)):  # by a gate
        raise refusal(link.host, lines)
    if output.status != 0:
        hint = "enable services.fleet.mesh for it, and deploy: docs/mesh.md"
        raise UnfitError(name, f"it has no key for the mesh: {PUBLIC} cannot be read", hint=hint)
    try:
        return public_key(output.stdout.removesuffix("\n"))
    except ValueError as error:
        raise AnswerError(name, f"its key for the mesh is none: {error}") from None


def stale(inventory: Inventory, mesh: Mesh | None) -> tuple[HostName, ...]:
    """Return the hosts that mesh.toml has and fleet.toml has not: all others would let them in."""
    names = {computer(host) for host in inventory.hosts.values()}
    return tuple(name for name in (mesh.hosts if mesh is not None else ()) if name not in names)


def write(inventory: Inventory, keys: Sequence[MeshKey], gone: Sequence[HostName]) -> Mesh:
    """Write the keys to mesh.toml, and take those out that are gone. The fleet has an id. Raise `ConfigError`."""
    return write_keys(inventory.path, prefix_of(inventory.id), [(each.host, each.key) for each in keys], gone)


def document(inventory: Inventory, mesh: Mesh) -> dict[str, Any]:
    """Return the document of `fleet mesh show --json`."""
    gone = stale(inventory, mesh)
    hosts = [{"name": name, **dict(entry), "is_stale": name in gone} for name, entry in mesh.hosts.items()]
    return {"prefix": mesh.prefix, "is_member": is_member(mesh), "hosts": hosts}


def findings_of(inventory: Inventory) -> tuple[Finding, ...]:
    """Return what is wrong with mesh.toml for this fleet. Raise `ConfigError` if the file cannot be read."""
    mesh = load_mesh(mesh_file(inventory.path))
    return tuple(dataclasses.replace(each, message=f"mesh.toml: {each.message}") for each in _findings(inventory, mesh))


def _findings(inventory: Inventory, mesh: Mesh | None) -> Iterator[Finding]:
    known = mesh.hosts if mesh is not None else {}
    meshed = dict.fromkeys(computer(host) for host in inventory.hosts.values() if host.mesh)
    for name in meshed:
        if name not in known:
            message = f"there is no [hosts.{name}], which has mesh = true"
            yield Finding(kind="mesh_missing", message=message, hint=KEYS.format(name), severity=Severity.NOTE)
    if mesh is None:
        return
    if inventory.id and mesh.prefix != prefix_of(inventory.id):
        message = f"prefix: {mesh.prefix} is not of this fleet, whose id makes {prefix_of(inventory.id)}"
        yield Finding(kind="mesh_prefix", message=message, hint="move the file away, then fleet mesh keys --all")
    keys = {name: entry.public_key for name, entry in known.items()}
    yield from _shared("key", keys, kind="mesh_shared_key", hint=COPIED)
    addresses = {name: entry.address for name, entry in known.items()}
    yield from _shared("address", addresses, kind="mesh_shared_address", hint="rename one of them")
    for name, entry in known.items():
        if entry.address != (right := address_of(mesh.prefix, name)):
            message = f"[hosts.{name}] address: {entry.address} is not the one of its name, {right}"
            yield Finding(kind="mesh_address", message=message, hint=KEYS.format(name))
    for name in stale(inventory, mesh):
        message = f"[hosts.{name}]: is no host of fleet.toml, and all others let it in"
        yield Finding(kind="mesh_stale", message=message, hint="fleet mesh keys --all takes it out; then deploy")


def _shared(what: str, values: Mapping[HostName, str], *, kind: str, hint: str) -> Iterator[Finding]:
    """Yield what two hosts share that only one can have."""
    for value, count in Counter(values.values()).items():
        if count > 1:
            message = f"{listed([name for name, each in values.items() if each == value])} have one {what}, {value}"
            yield Finding(kind=kind, message=message, hint=hint)
