"""Make the hosts of a first fleet.toml from what a flake or a file configures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.inventory.first import FirstFleet, FirstHost, is_name
from fleet.source import deployers

if TYPE_CHECKING:
    from fleet.source.discover import Data, Discovered

MAKE_HIVE = "colmenaHive = colmena.lib.makeHive self.outputs.colmena;"
"""What a flake with the output `colmena` needs besides."""
UNREADABLE = "colmena: its deployment options are in a module, which colmena alone can read: write address and user"


def first_fleet(found: Discovered, *, is_file: bool) -> FirstFleet:
    """Return the hosts that fleet.toml should have, those that it cannot have with the reason, and what is no host."""
    names = sorted({*found.configurations, *found.nodes, *found.raw, *found.deploy, *found.broken})
    images = [
        name
        for name, configuration in found.configurations.items()
        if configuration["isImage"] and name not in (*found.nodes, *found.deploy, *found.broken)
    ]
    left_out = {name: reason for name in names if (reason := _reason_against(found, name))}
    hosts = [_host(found, name, is_file=is_file) for name in names if name not in left_out and name not in images]
    return FirstFleet(hosts=tuple(hosts), left_out=left_out, ignore=tuple(images))


def _reason_against(found: Discovered, name: str) -> str:
    """Return why a host cannot be written; empty if it can."""
    if name in found.broken:
        return f"does not evaluate: {found.broken[name]}"
    if not is_name(name):
        return "cannot be the name of a host"
    if name in found.nodes or name in found.configurations:
        return ""
    if name in found.raw:
        return f"is in the output colmena alone, which only colmena evaluates; add to the flake: {MAKE_HIVE}"
    if "system" not in (found.deploy[name].get("profiles") or ()):
        return "has no profile system: deploy-rs deploys no NixOS to it"
    return (
        f"deploy.nodes.{name}.profiles.system.path is deploy-rs's wrapper around a system, and there is no "
        f"nixosConfigurations.{name}: write the host with the attr of its system"
    )


def _host(found: Discovered, name: str, *, is_file: bool) -> FirstHost:
    keys: Data = {}
    remarks: list[str] = []
    for source, read in (("colmena", _of_colmena(found, name)), ("deploy-rs", _of_deploy_rs(found, name))):
        if read is None:
            continue
        remarks += [f"{source} says {key} = {value}" for key, value in read[0].items() if keys.get(key, value) != value]
        keys = {**read[0], **keys}
        remarks += read[1]
    node = found.nodes.get(name)
    configuration = node["configuration"] if node else found.configurations[name]
    if configuration.get("system"):
        keys["system"] = configuration["system"]
    if attr := _attribute(found, name, is_file=is_file):
        keys["attr"] = attr
    ports = configuration.get("ports")
    if ports and 22 not in ports and "port" not in keys:
        keys["port"] = ports[0]
    return FirstHost(name=name, keys=keys, suggestions=_suggestions(configuration, keys), remarks=tuple(remarks))


def _attribute(found: Discovered, name: str, *, is_file: bool) -> str:
    """Return `attr` of the host; empty if it is the default."""
    if name in found.nodes:
        return ".".join(filter(None, (found.hive, "nodes", "{name}")))
    return "nixosConfigurations.{name}" if is_file and found.has_configurations else ""


def _of_colmena(found: Discovered, name: str) -> deployers.Read | None:
    if name in found.nodes:
        return deployers.colmena(found.nodes[name]["deployment"])
    if name not in found.raw:
        return None
    return deployers.colmena(found.raw[name]["deployment"]) if found.raw[name]["isReadable"] else ({}, [UNREADABLE])


def _of_deploy_rs(found: Discovered, name: str) -> deployers.Read | None:
    return deployers.deploy_rs(found.deploy[name]) if name in found.deploy else None


def _suggestions(configuration: Data, keys: Data) -> dict[str, object]:
    """Return keys that are likely right, and that people should look at first."""
    likely: dict[str, object] = {}
    if configuration.get("fqdn") and "address" not in keys:
        likely["address"] = configuration["fqdn"]
    administrators = configuration.get("administrators")
    if administrators and not configuration.get("rootMayLogIn") and "user" not in keys:
        likely["user"] = administrators[0]
        likely["sudo"] = "password" if configuration.get("sudoNeedsPassword") else True
    if configuration.get("units"):
        likely["checks"] = [{"unit": unit} for unit in configuration["units"]]
    return likely
