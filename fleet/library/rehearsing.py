"""Say what of a host can be rehearsed on a host of a lab, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from fleet.errors import ConfigError
from fleet.inventory import BuildOn, Inventory, LinkSpeed, Offline, RolloutTable, Sudo
from fleet.inventory.local import LOCAL
from fleet.inventory.values import host_and_port, is_ip
from fleet.text import listed

if TYPE_CHECKING:
    from fleet.inventory import Check, Host

_HERE = ("127.0.0.1", "localhost", "[::1]", "::1", "0.0.0.0")
_LOOPBACK = "127."


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A fleet of one host: the one that is rehearsed, reached as the lab's."""

    inventory: Inventory
    left_out: tuple[str, ...]
    """What is not rehearsed, and why."""

    @property
    def host(self) -> Host:
        """The host."""
        return next(iter(self.inventory.hosts.values()))


def require_rehearsable(host: Host, system: str) -> None:
    """Raise `ConfigError` if no host of a lab on a machine of this system can stand for the host."""
    if host.profile:
        raise ConfigError(
            f"{host.name} is a profile beside the system of a host, and has no host of its own",
            hint="rehearse the host",
        )
    if host.system != system:
        raise ConfigError(f"{host.name} is {host.system}, and a lab here runs {system} only")


def scene(host: Host, lab: Inventory) -> Scene:
    """Return the host as a host of the lab stands for it.

    Its checks and times are its own, and all of them are asked on the host. What it is to reach elsewhere is left out:
    a rehearsal must not look at what is in use, and must not do its work.
    """
    checks, left_out = [], []
    for check in host.checks:
        found = _check(check, host)
        if isinstance(found, str):
            left_out.append(f"{check.name}: {found}")
        else:
            checks.append(found)
    if host.secrets:
        left_out.append(f"{listed(sorted(host.secrets))}: values of secrets go to no lab")
    if host.hooks:
        left_out.append(f"{len(host.hooks)} hooks: they are for the host itself")
    (stand_in,) = lab.hosts.values()
    door = {key: getattr(stand_in, key) for key in ("address", "port", "user", "host_key", "identity_file")}
    alone: dict[str, object] = {
        "jump": None, "sudo": Sudo.NONE, "gate": False, "after": (), "window": (), "hooks": (), "secrets": {},
        "build_on": BuildOn.CONTROLLER, "substitute": False, "offline": Offline.FAIL, "link": LinkSpeed.FAST,
        "bandwidth": None, "last_resort": None, "connect_timeout": None, "checks": tuple(checks),
    }  # fmt: skip
    there = host.model_copy(update={**door, **alone})
    inventory = lab.model_copy(update={"hosts": {host.name: there}, "rollout": RolloutTable()})
    return Scene(inventory=inventory, left_out=tuple(left_out))


def _check(check: Check, host: Host) -> Check | str:
    """Return the check as it is asked on the lab's host, or why it cannot be."""
    if check.kind == "gpu":
        return "a lab has no GPU"
    if check.tcp is not None:
        name, port = host_and_port(check.tcp)
        if _is_loopback(name):
            return check.model_copy(update={"from_": "host"})
        if name in _names(host):
            return check.model_copy(update={"from_": "host", "tcp": f"127.0.0.1:{port}"})
        return f"it asks {name}, which is another"
    if check.http is not None:
        return _http(check, host)
    return check


def _http(check: Check, host: Host) -> Check | str:
    parts = urlsplit(check.http or "")
    name = parts.hostname or ""
    if _is_loopback(name):
        return check.model_copy(update={"from_": "host"})
    if name not in _names(host):
        return f"it asks {name}, which is another"
    if parts.scheme == "https" and check.verify_tls:
        return f"nobody in a lab has a certificate for {name}"
    there = urlunsplit(parts._replace(netloc=f"127.0.0.1:{parts.port}" if parts.port else "127.0.0.1"))
    headers = {"Host": parts.netloc, **check.headers}
    return check.model_copy(update={"from_": "host", "http": there, "headers": headers})


def _is_loopback(name: str) -> bool:
    return name in _HERE or (is_ip(name) and name.startswith(_LOOPBACK))


def _names(host: Host) -> set[str]:
    """Return what the host itself is called in checks: its name, and its addresses."""
    return {str(host.name), *(address for address in host.address if address != LOCAL)}
