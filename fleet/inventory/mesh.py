"""mesh.toml, beside fleet.toml: who is in the mesh of a fleet, by public keys. Hosts read it in `modules/mesh.nix`.

The address of a host comes from its name and from the id of the fleet, so that it is the same for ever and everywhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import tomllib
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from fleet.errors import ConfigError
from fleet.files import alone_in, read_file, replace_file
from fleet.inventory import values
from fleet.inventory.local import remote_addresses
from fleet.inventory.problems import Problems, dotted, unknown_key
from fleet.inventory.profiles import computer
from fleet.inventory.tables import Table
from fleet.inventory.words import expected, shown
from fleet.model import HostName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.inventory.schema import Host, Inventory

NAME = "mesh.toml"
LARGEST = 16 << 20
"""The most bytes of a mesh.toml that are read."""
PORT = 51820
"""Where hosts listen, unless services.fleet.mesh says otherwise."""
OWN_ADDRESSES = Path("/proc/net/if_inet6")
"""Where the kernel tells the IPv6 addresses of this machine."""
_HEAD = """\
# Who is in the mesh of this fleet: docs/mesh.md. `fleet mesh keys` writes it; endpoints are yours to change.
# Nothing in it is secret. Commit it, so that hosts get it.
"""


def public_key(value: object) -> str:
    """Read a public key of WireGuard: 32 bytes as 44 characters of base64."""
    word = values.text(value, "a public key of WireGuard")
    try:
        raw = base64.b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32 or base64.b64encode(raw).decode() != word:
        raise expected(value, "a public key of WireGuard: 44 characters of base64, which are 32 bytes")
    return word


def _address(value: object) -> str:
    word = values.text(value, "an IPv6 address")
    try:
        return str(IPv6Address(word if "%" not in word else ""))
    except ValueError:
        raise expected(value, "an IPv6 address") from None


def _prefix(value: object) -> str:
    word = values.text(value, "a prefix")
    try:
        found = IPv6Network(word)
    except ValueError:
        found = None
    if found is None or found.prefixlen != 64 or found.network_address.packed[0] != 0xFD:
        raise expected(value, 'a prefix such as "fd12:3456:789a::/64"; fleet mesh keys writes it')
    return str(found)


class MeshHost(Table):
    """A host of the mesh: the table [hosts.NAME]."""

    public_key: Annotated[str, BeforeValidator(public_key)]
    address: Annotated[str, BeforeValidator(_address)]
    endpoint: Annotated[str, BeforeValidator(values.tcp_target)] | None = None
    """`host:port`, where others reach it without the mesh; None if they cannot, and it has to begin."""


class Mesh(Table):
    """A whole mesh.toml, valid by itself. Whether it fits the fleet is another question."""

    prefix: Annotated[str, BeforeValidator(_prefix)]
    hosts: dict[HostName, MeshHost] = Field(default_factory=dict)

    def has(self, address: IPv6Address) -> bool:
        """Whether the address is one of the mesh."""
        return address in IPv6Network(self.prefix)


def mesh_file(fleet_toml: Path) -> Path:
    """Return where the mesh.toml of a fleet.toml is. It may not exist."""
    return fleet_toml.parent / NAME


def prefix_of(fleet_id: str) -> str:
    """Return the prefix of the addresses of a fleet, which is a unique local one (RFC 4193): fd, and 40 bits."""
    digest = hashlib.sha256(f"fleet mesh {fleet_id}".encode()).digest()
    return str(IPv6Network((b"\xfd" + digest[:5] + bytes(10), 64)))


def address_of(prefix: str, name: str) -> str:
    """Return the address that a host of this name has below the prefix."""
    digest = hashlib.sha256(f"fleet mesh host {name}".encode()).digest()
    return str(IPv6Address(IPv6Network(prefix).network_address.packed[:8] + digest[:8]))


def load_mesh(path: Path) -> Mesh | None:
    """Return what the file says; None if there is none. Raise one `ConfigError` with all its problems."""
    try:
        text = read_file(path, most=LARGEST).decode()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8: the byte at offset {error.start}") from None
    return parse_mesh(path, text)


def parse_mesh(path: Path, text: str) -> Mesh:
    """Return what the text says. Raise one `ConfigError` with all its problems, each with its table and key."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    problems = Problems(path)
    for key in document:
        if key not in Mesh.toml_keys():
            problems.add("", dotted(key), unknown_key(key, Mesh.toml_keys()))
    hosts = _hosts(problems, document.get("hosts", {}))
    head = {key: value for key, value in document.items() if key == "prefix"}
    mesh = None
    try:
        mesh = Mesh.model_validate({**head, "hosts": hosts})
    except ValidationError as error:
        problems.add_invalid(error, "", Mesh.toml_keys(), document)
    problems.raise_if_any()
    assert mesh is not None
    return mesh


def _hosts(problems: Problems, raw: Any) -> dict[HostName, MeshHost]:
    if not isinstance(raw, dict):
        problems.add("", "hosts", f"found {shown(raw)}, expected tables: [hosts.NAME]")
        return {}
    hosts = {}
    for name, own in raw.items():
        table = f"[{dotted('hosts', name)}]"
        try:
            values.name(name)
        except ValueError as error:
            problems.add(table, "", f"a host's name: {error}")
            continue
        if not isinstance(own, dict):
            problems.add(table, "", f"found {shown(own)}, expected a table")
            continue
        try:
            hosts[HostName(name)] = MeshHost.model_validate(own)
        except ValidationError as error:
            problems.add_invalid(error, table, MeshHost.toml_keys(), own)
    return hosts


def mesh_text(mesh: Mesh) -> str:
    """Return the mesh as a mesh.toml, with its hosts in the order of their names."""
    import tomli_w  # few commands write it, and all read fleet.toml

    hosts = {str(name): mesh.hosts[name].model_dump(exclude_none=True) for name in sorted(mesh.hosts)}
    return f"{_HEAD}{tomli_w.dumps({'prefix': mesh.prefix, 'hosts': hosts})}"


def write_keys(fleet_toml: Path, prefix: str, keys: Iterable[tuple[Host, str]], gone: Iterable[HostName]) -> Mesh:
    """Write the keys of these hosts to mesh.toml, and take those out that are gone. Return what it says then.

    An endpoint that is there stays. A host that is new gets one if others may reach it. Raise `ConfigError` if the file
    is wrong, of another fleet, or cannot be written; it is as it was then.
    """
    path, taken_out = mesh_file(fleet_toml).resolve(), set(gone)
    with alone_in(path.parent):  # if two people ask for keys at the same time, both are kept
        before = load_mesh(path) or Mesh(prefix=prefix)
        require_prefix(path, before, prefix)
        hosts = {name: host for name, host in before.hosts.items() if name not in taken_out}
        for host, key in keys:
            name = HostName(computer(host))
            old = hosts.get(name)
            endpoint = old.endpoint if old is not None else usual_endpoint(host)
            hosts[name] = MeshHost(public_key=key, address=address_of(prefix, name), endpoint=endpoint)
        mesh = Mesh(prefix=prefix, hosts=hosts)
        try:
            replace_file(path, mesh_text(mesh).encode(), mode=0o644, durable=True)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    return mesh


def require_prefix(path: Path, mesh: Mesh, prefix: str) -> None:
    """Raise `ConfigError` if the mesh has another prefix."""
    if mesh.prefix != prefix:
        message = f"{path}: prefix: found {shown(mesh.prefix)}, and the id of this fleet makes {shown(prefix)}"
        raise ConfigError(message, hint="is it of another fleet? move it away, then fleet mesh keys --all")


def usual_endpoint(host: Host) -> str | None:
    """Return where others probably reach a host without the mesh. None for one that is behind another, or moves."""
    addresses = remote_addresses(host)
    if not addresses or host.jump or host.kind == "laptop":
        return None
    first = addresses[0]
    return f"[{first}]:{PORT}" if ":" in first else f"{first}:{PORT}"


def is_member(mesh: Mesh, listed: Path | None = None) -> bool:
    """Whether this machine has an address of the mesh."""
    try:
        lines = read_file(listed or OWN_ADDRESSES, most=LARGEST).decode("ascii", "replace").splitlines()
    except OSError:  # no IPv6, or no Linux
        return False
    words = [line.split()[0] for line in lines if line.strip()]
    return any(len(word) == 32 and mesh.has(IPv6Address(bytes.fromhex(word))) for word in words)


def with_mesh(fleet: Inventory) -> Inventory:
    """Return the fleet, whose hosts with `mesh = true` have their address in the mesh as the last of their addresses.

    They have it if mesh.toml does, and if this machine is in the mesh. Raise `ConfigError` if the file is wrong.
    """
    if not any(host.mesh for host in fleet.hosts.values()):
        return fleet
    mesh = load_mesh(mesh_file(fleet.path))
    if mesh is None or not is_member(mesh):
        return fleet
    hosts = {name: _reached(host, mesh) for name, host in fleet.hosts.items()}
    return fleet.model_copy(update={"hosts": hosts})


def _reached(host: Host, mesh: Mesh) -> Host:
    entry = mesh.hosts.get(HostName(computer(host)))
    if not host.mesh or entry is None or entry.address in host.address:
        return host
    return host.model_copy(update={"address": (*host.address, entry.address)})
