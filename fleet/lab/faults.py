"""Harm lab hosts on purpose: cut their network, fill their disks, freeze them.

A fault lasts until `restore`. A cut network also ends with the host's power. The host's clock is never touched.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from fleet.errors import ConfigError
from fleet.lab.hosts import LabHost
from fleet.scripts import script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab.lab import Lab
    from fleet.lab.vm import VmHost

    AnyHost = LabHost | VmHost

DISKS = {"/nix": 256, "/boot": 16}
"""The folders that can be filled, and the free MiB of each when it gets a disk of its own."""
_ALL = "policy drop;"
_NEW = "policy accept; tcp flags & (syn | ack) == syn drop;"


def cut(host: AnyHost, *, new_only: bool = False) -> None:
    """Drop all packets from and to the host without notice. With `new_only`, connections that exist go on."""
    host.exec("sh", "-c", script("fleet.lab", "cut"), "sh", _NEW if new_only else _ALL)


def isolate(host: AnyHost) -> None:
    """Let the host reach nothing beyond its own network until its power is cut. This machine reaches it as before."""
    host.exec("sh", "-c", script("fleet.lab", "isolate"))


def give_disk(host: AnyHost, folder: str) -> None:
    """Put the folder, /nix or /boot, on a disk of its own, so that it can be filled. No deployment may be under way."""
    if folder not in DISKS:
        raise ConfigError(f"{folder} of a lab host cannot be filled", hint=f"what can: {', '.join(DISKS)}")
    host.exec("lab-disk", "give", folder, str(DISKS[folder]))


def fill(host: AnyHost, folder: str) -> None:
    """Fill the folder's disk to the last block."""
    give_disk(host, folder)
    host.exec("lab-disk", "fill", folder)


def make_read_only(host: AnyHost, folder: str) -> None:
    """Make the folder's disk read-only, as when its file system has found an error."""
    give_disk(host, folder)
    host.exec("lab-disk", "read-only", folder)


def freeze(host: AnyHost) -> None:
    """Stop all processes of the host, as if it hung or slept. Its connections stay open."""
    if isinstance(host, LabHost):
        _pause(host)
    elif process := host.process:
        os.kill(process, signal.SIGSTOP)


def _pause(host: LabHost) -> None:
    """Pause the container. Docker now and then fails to freeze a host that is very busy, so try several times."""
    from docker.errors import APIError

    for _ in range(9):
        with suppress(APIError):
            host.container.pause()
            return
    host.container.pause()


def thaw(host: AnyHost) -> None:
    """Let the host go on where it was frozen, if it was."""
    if isinstance(host, LabHost):
        host.container.reload()
        if host.container.status == "paused":
            host.container.unpause()
    elif process := host.process:
        os.kill(process, signal.SIGCONT)


@contextmanager
def slow(lab: Lab, name: str, *, rate: str, delay: str) -> Iterator[int]:
    """Put a link with this rate and delay, each way, between fleet.toml and the host, while inside. Yields its port."""
    host = lab.any_host(name)
    argv = [sys.executable, "-m", "fleet.lab.relay", "0", str(host.port), "--rate", rate, "--delay", delay]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8") as relay:
        assert relay.stdout is not None
        assert relay.stderr is not None
        try:
            listening_on = relay.stdout.readline().strip()
            if not listening_on:
                raise ConfigError(f"no such link: {relay.stderr.read().strip().splitlines()[-1]}")
            with lab.folder.alone():
                lab.folder.write_hosts({name: int(listening_on)}, lab.engine.system)
            yield int(listening_on)
        finally:
            relay.terminate()
            with lab.folder.alone():
                lab.folder.write_hosts({name: host.port}, lab.engine.system)


def restore(host: AnyHost) -> None:
    """Undo every fault: afterwards the host has power, network and space, and can write."""
    thaw(host)
    if not host.is_on:
        host.power_on()
    host.exec("nft", "destroy", "table", "inet", "lab-fault")
    for folder in DISKS:
        host.exec("lab-disk", "restore", folder)
