"""Read from a lock file what a flake is pinned to, and judge what its hosts end with. No I/O."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleet.model import Finding, Severity
from fleet.plans.manifest import base32
from fleet.text import listed, version_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fleet.inventory import Host
    from fleet.model import HostName

Node = dict[str, Any]
SOURCE = "source"
"""The name that Nix gives to the store path of every flake input."""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """An input of a flake, and what it is locked to."""

    flake: str
    name: str
    """The name that the flake gives it; of inputs of inputs that of their node in the lock file."""
    is_direct: bool
    """Whether the flake itself names it: others are inputs of inputs."""
    source: str
    """What it follows, as one writes it in a flake."""
    revision: str
    """The commit that it is locked to; empty if it has none."""
    changed: int | None
    """When that was made, in seconds since 1970."""
    path: str | None
    """Its path in the store, wherever it is; None if it is not locked by its content."""


@dataclass(frozen=True, kw_only=True)
class Ends:
    """What the configuration of a host ends with. What is not known or not there is None."""

    nixpkgs: str | None = None
    """The store path of the nixpkgs that it is made of."""
    nixos: str | None = None
    kernel: str | None = None
    driver: str | None = None
    """The version of the NVIDIA driver."""
    cuda: str | None = None


def pins(flake: str, locks: Node) -> tuple[Pin, ...]:
    """Return the inputs of a flake, those that it names itself first. `locks` is the contents of its flake.lock.

    What is no lock file has no inputs.
    """
    nodes = locks.get("nodes")
    root = str(locks.get("root", "root"))
    if not isinstance(nodes, dict) or not isinstance(nodes.get(root), dict):
        return ()
    named = _table(nodes[root], "inputs").items()
    direct: dict[str, str] = {target: name for name, target in named if isinstance(target, str)}
    found = [
        _pin(flake, direct.get(str(key), str(key)), node, is_direct=key in direct)
        for key, node in nodes.items()
        if key != root and isinstance(node, dict)
    ]
    return tuple(sorted(found, key=lambda pin: (not pin.is_direct, pin.name)))


def _pin(flake: str, name: str, node: Node, *, is_direct: bool) -> Pin:
    locked, original = _table(node, "locked"), _table(node, "original")
    changed = locked.get("lastModified")
    return Pin(
        flake=flake,
        name=name,
        is_direct=is_direct,
        source=reference(original or locked),
        revision=str(locked.get("rev") or ""),
        changed=changed if isinstance(changed, int) else None,
        path=source_path(str(locked.get("narHash") or "")),
    )


def _table(node: Node, key: str) -> Node:
    found = node.get(key)
    return found if isinstance(found, dict) else {}


def reference(original: Node) -> str:
    """Return an input as one writes it in a flake: `github:NixOS/nixpkgs/nixos-26.05`."""
    kind = str(original.get("type", ""))
    if url := str(original.get("url") or ""):
        asked = "&".join(f"{key}={original[key]}" for key in ("ref", "rev") if original.get(key))
        prefix = f"{kind}+" if kind in ("git", "hg") else ""
        return f"{prefix}{url}{'?' if asked else ''}{asked}"
    words = [str(original[key]) for key in ("owner", "repo", "id", "path", "ref", "rev") if original.get(key)]
    return f"{kind}:{'/'.join(words)}"


def source_path(nar_hash: str) -> str | None:
    """Return the store path of an input by the hash of its content, as Nix computes it; None without a SHA-256.

    The source of this is Nix's manual, "Store path calculation".
    """
    kind, _, encoded = nar_hash.partition("-")
    try:
        digest = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        return None
    if kind != "sha256" or len(digest) != hashlib.sha256().digest_size:
        return None
    whole = hashlib.sha256(f"source:sha256:{digest.hex()}:/nix/store:{SOURCE}".encode()).digest()
    folded = bytearray(20)
    for index, byte in enumerate(whole):
        folded[index % len(folded)] ^= byte
    return f"/nix/store/{base32(bytes(folded))}-{SOURCE}"


def followed(ends: Ends, known: Iterable[Pin]) -> Pin | None:
    """Return the input that a host has its nixpkgs from; None if it is not among these."""
    return next((pin for pin in known if pin.path is not None and pin.path == ends.nixpkgs), None)


def findings(hosts: Iterable[Host], ends: Mapping[HostName, Ends], known: Iterable[Pin]) -> list[Finding]:
    """Return what does not go together in what these hosts end with."""
    hosts, known = [host for host in hosts if host.name in ends], tuple(known)
    return [
        *_several_nixpkgs(hosts, ends, known),
        *_several(hosts, ends, "driver", "NVIDIA driver", kind="several_drivers"),
        *_several(hosts, ends, "cuda", "CUDA", kind="several_cudas"),
        *_old_drivers(hosts, ends),
    ]


def _several_nixpkgs(hosts: list[Host], ends: Mapping[HostName, Ends], known: tuple[Pin, ...]) -> Iterator[Finding]:
    """Yield an error for each kind of hosts that is made of several nixpkgs, or a note if only the kinds differ."""
    by_kind = {
        kind: [host for host in hosts if host.kind is kind] for kind in dict.fromkeys(host.kind for host in hosts)
    }
    for kind, ours in by_kind.items():
        groups = _groups(ours, ends, "nixpkgs")
        if len(groups) > 1:
            yield Finding(
                kind="several_nixpkgs",
                message=f"hosts of kind {kind.value} are made of {len(groups)} nixpkgs: {_told(groups, known)}",
                hint="let one input follow the other (inputs.X.inputs.nixpkgs.follows), or update the older one",
            )
            return
    groups = _groups(hosts, ends, "nixpkgs")
    if len(groups) > 1:
        message = f"hosts of different kinds are made of different nixpkgs: {_told(groups, known)}"
        yield Finding(kind="several_nixpkgs", severity=Severity.NOTE, message=message)


def _told(groups: Mapping[str, list[str]], known: Iterable[Pin]) -> str:
    """Return the hosts by the input that their nixpkgs is, for people."""
    pins = {path: followed(Ends(nixpkgs=path), known) for path in groups}
    names = {path: f"{pin.name} {pin.revision[:12]}".strip() if pin else path for path, pin in pins.items()}
    return "; ".join(f"{names[path]}: {listed(hosts)}" for path, hosts in groups.items())


def _several(
    hosts: list[Host], ends: Mapping[HostName, Ends], field: str, what: str, *, kind: str
) -> Iterator[Finding]:
    groups = _groups(hosts, ends, field)
    if len(groups) > 1:
        names = "; ".join(f"{version}: {listed(of)}" for version, of in groups.items())
        yield Finding(
            kind=kind,
            severity=Severity.NOTE,
            message=f"hosts end with different versions of {what}: {names}",
            hint="what is built for one of them may not run on the others",
        )


def _old_drivers(hosts: list[Host], ends: Mapping[HostName, Ends]) -> Iterator[Finding]:
    for host in hosts:
        driver = ends[host.name].driver
        for check in host.checks:
            if driver and check.min_driver and version_numbers(driver) < version_numbers(check.min_driver):
                yield Finding(
                    kind="driver_too_old",
                    message=f"{host.name} would get NVIDIA driver {driver}, and its check {check.name} wants"
                    f" {check.min_driver} or later",
                    hint="update nixpkgs, choose another hardware.nvidia.package, or correct the check",
                )


def _groups(hosts: Iterable[Host], ends: Mapping[HostName, Ends], field: str) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for host in hosts:
        if (value := getattr(ends[host.name], field)) is not None:
            groups.setdefault(value, []).append(host.name)
    return groups
