"""A lab as a whole: up, down, and its hosts."""

from __future__ import annotations

import io
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from fleet.errors import ConfigError, FleetError, HostError
from fleet.lab import engine as docker
from fleet.lab import image, vm, vm_image
from fleet.lab.folder import Folder, checked_names
from fleet.lab.hosts import LabHost
from fleet.lab.vm import VmHost
from fleet.model import HostName

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

DEFAULT_HOSTS = ("laptop", "gpu-01", "pi-edge")
_AT_ONCE = 8
_Host = TypeVar("_Host", LabHost, VmHost, LabHost | VmHost)


def _silent(_: str) -> None:
    """Discard progress."""


@dataclass(frozen=True)
class Lab:
    """The hosts of one folder.

    Containers are found by their labels, VMs by their folder, so that any process can find them.
    """

    folder: Folder
    engine: docker.Engine

    @classmethod
    def up(
        cls,
        path: Path,
        hosts: Sequence[str] = (),
        *,
        vms: Sequence[str] = (),
        say: Callable[[str], None] = _silent,
    ) -> Lab:
        """Make every host answer over SSH, and give the folder a fleet.toml, a flake and keys for them.

        Running hosts are left alone, hosts that are off are started, missing ones are made. Without `hosts` and `vms`,
        those of the folder's fleet.toml are meant, or the default ones.
        """
        lab = cls(Folder(path.absolute()), docker.connect())
        lab.folder.check_ours()
        try:
            with lab.folder.alone():
                known = lab.folder.hosts()
                vm_names = checked_names([*(vm.name for vm in lab.vms), *vms])
                names = checked_names([*known, *hosts] if hosts or vms else tuple(known) or DEFAULT_HOSTS)
                lab._start([name for name in names if name not in vm_names], vm_names, known, say)
            lab._wait([*names, *vm_names], say)
        except FleetError as error:
            again = f"fleet lab up --dir {path} goes on from here, fleet lab down --dir {path} removes all"
            error.hint = f"{error.hint}; {again}" if error.hint else again
            raise
        return lab

    @classmethod
    def find(cls, path: Path) -> Lab:
        """Return the lab of the folder, which may have no hosts."""
        return cls(Folder(path.absolute()), docker.connect())

    @classmethod
    def existing(cls, path: Path) -> Lab:
        """Return the lab of the folder, or what is left of it. Raise `ConfigError` if there never was one."""
        lab = cls.find(path)
        if not (lab.folder.is_lab or lab.hosts or lab.vms):
            hint = "--dir names the folder of a lab; fleet lab up makes one"
            raise ConfigError(f"there is no lab in {lab.folder.path}", hint=hint)
        return lab

    @property
    def hosts(self) -> tuple[LabHost, ...]:
        """All hosts that are containers, by name."""
        found = self.engine.containers(self.folder.path)
        return tuple(LabHost(HostName(name), found[name]) for name in sorted(found))

    @property
    def vms(self) -> tuple[VmHost, ...]:
        """All hosts that are virtual machines, by name."""
        place = vm.folder(self.folder.name)
        return tuple(VmHost(HostName(file.parent.name), file.parent) for file in sorted(place.glob("*/vm.json")))

    def host(self, name: str) -> LabHost:
        """Return the container with this name."""
        return _named(name, self.hosts, self.folder)

    def vm(self, name: str) -> VmHost:
        """Return the VM with this name."""
        return _named(name, self.vms, self.folder)

    def any_host(self, name: str) -> LabHost | VmHost:
        """Return the host with this name."""
        everybody: tuple[LabHost | VmHost, ...] = (*self.hosts, *self.vms)
        return _named(name, everybody, self.folder)

    def write_host(self, name: str, nix: str) -> None:
        """Write this text to hosts/NAME.nix, for the next deployment."""
        self.folder.write_closure(name, nix)

    def down(self) -> list[str]:
        """Remove all hosts and files of the lab. Return the files that stay because people edited them."""
        if not self.folder.path.is_dir():
            self._remove_hosts()
            return []
        with self.folder.alone():
            self._remove_hosts()
            return self.folder.remove()

    def _remove_hosts(self) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda host: host.container.remove(force=True, v=True), self.hosts))
            list(pool.map(VmHost.remove, self.vms))
        shutil.rmtree(vm.folder(self.folder.name), ignore_errors=True)

    def _start(
        self,
        names: Sequence[str],
        vms: Sequence[str],
        known: dict[str, dict[str, Any]],
        say: Callable[[str], None],
    ) -> None:
        """Start every host, and describe them all in the folder even if a later step fails."""
        ports: dict[str, int] = {}
        if short := docker.inotify_shortage(len(names)):
            say(short)
        if vms:
            ports |= self._start_vms(vms, known, say)
        if names:
            ports |= self._start_containers(names, known, image.ensure(self.engine, say), say)
        self.folder.write_flake()
        self.folder.write_hosts(ports, self.engine.system)

    def _start_vms(
        self, names: Sequence[str], known: dict[str, dict[str, Any]], say: Callable[[str], None]
    ) -> dict[str, int]:
        """Start every VM, and return the ports of their sshds."""
        disk = vm_image.ensure(say)
        place = vm.folder(self.folder.name)
        vm.add_kernel(disk, place / "linux")
        self.folder.write_vms(names, disk.linux_nix)
        self.folder.write_busybox(disk.busybox)
        taken = {str(host.name) for host in self.hosts}
        for name in names:
            if name in taken:
                raise ConfigError(f"{name} is a container already", hint="give the VM another name")
            host = VmHost(HostName(name), place / name)
            if not host.is_on:
                say(f"{name}: powering on")
                keys = {"host_key": self.folder.key(name)[0], "client_key": self.folder.key("id_ed25519")[1]}
                host.make(disk, **keys, port=known.get(name, {}).get("port"))
                host.start()
        return {str(host.name): host.port for host in self.vms}

    def _start_containers(
        self, names: Sequence[str], known: dict[str, dict[str, Any]], image_name: str, say: Callable[[str], None]
    ) -> dict[str, int]:
        """Start every container, and return the ports of their sshds."""
        found = self.engine.containers(self.folder.path)
        boots = {name: self._boot(name, image_name) for name in names}  # not in the threads, since this writes keys

        def start(name: str) -> int:
            boot = boots[name]
            if name in found and docker.has_keys(found[name], boot):
                host = LabHost(HostName(name), found[name])
                if not host.is_on:
                    say(f"{name}: powering on")
                    host.container.start()
                return host.port
            if name in found:  # its keys were deleted, so nobody can log in any more
                found[name].remove(force=True, v=True)
            say(f"{name}: making the host")
            return docker.start(boot, known.get(name, {}).get("port"))

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            ports = dict(zip(names, pool.map(start, names), strict=True))
        self.folder.write_busybox(_busybox(self.engine.containers(self.folder.path)[names[0]]))
        return ports

    def _boot(self, name: str, image_name: str) -> docker.Boot:
        return docker.Boot(
            image=image_name,
            folder=self.folder.path,
            host=name,
            name=f"fleet-{self.folder.name}-{name}",
            host_key=self.folder.key(name)[0],
            client_key=self.folder.key("id_ed25519")[1],
        )

    def _wait(self, names: Sequence[str], say: Callable[[str], None]) -> None:
        hosts = [self.any_host(name) for name in dict.fromkeys(names)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            states = pool.map(_state_or_error, hosts)
        for host, state in zip(hosts, states, strict=True):
            if isinstance(state, HostError):
                raise state
            say(f"{host.name}: {state}, 127.0.0.1:{host.port}")


def _named(name: str, hosts: Sequence[_Host], folder: Folder) -> _Host:
    """Return the host with this name. Raise a `ConfigError` that names the others."""
    found = {str(host.name): host for host in hosts}
    if name not in found:
        raise ConfigError(
            f"the lab in {folder.path} has no host {name!r}",
            hint=f"its hosts: {', '.join(found)}" if found else f"fleet lab up --dir {folder.path}",
        )
    return found[name]


def _state_or_error(host: LabHost | VmHost) -> str | HostError:
    try:
        return host.wait()
    except HostError as error:
        return error


def _busybox(container: Any) -> bytes:
    """Return the image's static busybox, so that the controller needs none."""
    chunks, _ = container.get_archive("/usr/bin/busybox")
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        member = archive.extractfile("busybox")
        assert member is not None
        return member.read()
