"""Talk to Docker. Nothing else does. Containers are started by testcontainers, and found by their labels."""

from __future__ import annotations

import os
import random
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from fleet.errors import ConfigError

_FOLDER, _HOST = "fleet.lab.folder", "fleet.lab.host"
_TMPFS = {"/run": "rw,exec,nosuid,nodev,mode=755", "/tmp": "rw,exec,nosuid,nodev,mode=1777"}
_PORT_TAKEN = ("port is already allocated", "address already in use")
_PORTS = range(20000, 32000)
"""Below the ports that the kernel gives to outgoing connections, so that a host that is off keeps its port free."""


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers."""

    client: Any

    @property
    def system(self) -> str:
        """Nix's name for the machines that the engine runs."""
        return f"{self.client.info()['Architecture']}-linux"

    def containers(self, folder: Path) -> dict[str, Any]:
        """Return the containers of the lab in this folder by host, running or not."""
        found = self.client.containers.list(all=True, filters={"label": f"{_FOLDER}={folder.resolve()}"})
        return {container.labels[_HOST]: container for container in found}


@dataclass(frozen=True, kw_only=True)
class Boot:
    """What a host's container is made from."""

    image: str
    folder: Path
    host: str
    name: str
    host_key: str
    client_key: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the boot stage reads."""
        return {"LAB_HOST_KEY": self.host_key, "LAB_CLIENT_KEY": self.client_key}


PATIENCE = 10
"""Seconds in which an engine that works has answered."""


@cache
def connect() -> Engine:
    """Return the engine of this machine. There is one connection for the whole process.

    Raise `ConfigError`, with the remedy, if there is none.
    """
    # Ryuk would remove the lab as soon as `fleet lab up` ends, and comes from a registry.
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
    try:
        import docker
        from testcontainers.core.docker_client import DockerClient, get_docker_host
    except ImportError as error:
        raise ConfigError(
            "the lab needs testcontainers, which is not installed",
            hint="install fleet with its extra lab: pip install '.[lab]' in a checkout",
        ) from error
    url = get_docker_host() or "unix:///var/run/docker.sock"
    try:
        _reach(url)
        client = DockerClient(timeout=PATIENCE).client
        client.api.timeout = docker.constants.DEFAULT_TIMEOUT_SECONDS  # to build and to start things takes longer
        client.api.trust_env = (
            False  # no proxy leads to an engine, and other threads may change the environment meanwhile
        )
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise ConfigError(
            f"no Docker engine answers at {url}: {error}",
            hint="start one (systemctl start docker; on NixOS virtualisation.docker.enable = true), "
            "and be in the group docker or root",
        ) from error
    return Engine(client)


def _reach(url: str) -> None:
    """Raise `OSError` if nothing listens there. docker-py would report it at length, and leak its socket."""
    if url.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(url.removeprefix("unix://"))


INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_PER_HOST = 5
"""How many inotify instances the systemd of one host takes, with its journald, udevd and dbus."""


def inotify_shortage(hosts: int, *, limit: Path = INOTIFY) -> str:
    """Return what to do if the kernel allows too few inotify instances for so many containers; nothing if it does not.

    All containers are of one user to the kernel. Without instances a systemd does not come up, and does not say why.
    """
    try:
        allowed = int(limit.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return ""
    if hosts * INOTIFY_PER_HOST <= allowed:
        return ""
    wanted = max(1024, 2 * hosts * INOTIFY_PER_HOST)
    return (
        f"{hosts} hosts need about {hosts * INOTIFY_PER_HOST} inotify instances, and this machine allows {allowed}; "
        f"if hosts do not come up: sysctl fs.inotify.max_user_instances={wanted}"
    )


def has_keys(container: Any, boot: Boot) -> bool:
    """Whether the container was made with these keys."""
    return set(boot.environment.items()) <= {
        tuple(item.split("=", 1)) for item in container.attrs["Config"]["Env"] if "=" in item
    }


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    for port in random.sample(_PORTS, 200):
        if port_is_free(port):
            return port
    raise ConfigError(f"found no free port between {_PORTS.start} and {_PORTS.stop}")


def port_is_free(port: int) -> bool:
    """Whether 127.0.0.1 accepts a listener on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def start(boot: Boot, port: int | None) -> int:
    """Start the host's container, and return the port that its sshd is published on: the given one if it is free."""
    from docker.errors import APIError

    for _ in range(10):
        chosen = port if port is not None and port_is_free(port) else free_port()
        container = _container(boot, chosen)
        try:
            container.start()
        except APIError as error:
            container.stop()
            if not any(words in str(error.explanation) for words in _PORT_TAKEN):
                raise ConfigError(f"{boot.host}: Docker cannot start its container: {error.explanation}") from error
            port = None  # taken since it was tried
        else:
            container.get_docker_client().client.close()
            return chosen
    raise ConfigError(f"{boot.host}: every port tried for it was taken at once")


def _container(boot: Boot, port: int) -> Any:
    from testcontainers.core.container import DockerContainer

    container = DockerContainer(boot.image).with_name(boot.name)
    container.ports = cast("Any", {"22/tcp": ("127.0.0.1", port)})
    container.tmpfs = dict(_TMPFS)
    container.with_envs(**boot.environment)
    return container.with_kwargs(
        hostname=boot.host,
        labels={_FOLDER: str(boot.folder.resolve()), _HOST: boot.host},
        cgroupns="private",
        cap_add=["SYS_ADMIN", "NET_ADMIN"],
        device_cgroup_rules=["c 10:237 rwm", "b 7:* rwm"],  # loop devices, for disks that can be filled
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        stop_signal="SIGRTMIN+3",
    )
