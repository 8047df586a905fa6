"""What can befall a host, done to lab hosts on purpose: a cut network, full disks, a host that stands still.

Every fault lasts until `restore`; a cut ends with the host's power too. The host's clock is never touched.
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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab.lab import Lab
    from fleet.lab.vm import VmHost

    AnyHost = LabHost | VmHost

DISKS = {"/nix": 256, "/boot": 16}
"""The folders that can be filled, and the MiB that are free in each when it gets a disk of its own."""
_ALL = "policy drop;"
_NEW = "policy accept; tcp flags & (syn | ack) == syn drop;"
_RULES = """\
table inet lab-fault
delete table inet lab-fault
table inet lab-fault {{
    chain in {{ type filter hook input priority -300; iif lo accept; {into} }}
    chain out {{ type filter hook output priority -300; oif lo accept; {out} }}
}}
"""


def cut(host: AnyHost, *, new_only: bool = False) -> None:
    """No packet reaches or leaves the host, and nobody is told. With `new_only`, connections that stand live on."""
    rules = _RULES.format(into=_NEW if new_only else _ALL, out=_NEW if new_only else _ALL)
    host.exec("sh", "-c", f"nft -f - <<'RULES'\n{rules}RULES")


def give_disk(host: AnyHost, folder: str) -> None:
    """The folder, /nix or /boot, is on a disk of its own: it can be filled. No deployment may be under way."""
    if folder not in DISKS:
        raise ConfigError(f"{folder} of a lab host cannot be filled", hint=f"what can: {', '.join(DISKS)}")
    host.exec("lab-disk", "give", folder, str(DISKS[folder]))


def fill(host: AnyHost, folder: str) -> None:
    """The folder's disk is full to the last block."""
    give_disk(host, folder)
    host.exec("lab-disk", "fill", folder)


def make_read_only(host: AnyHost, folder: str) -> None:
    """Nothing can be written to the folder's disk, as when its file system has found an error."""
    give_disk(host, folder)
    host.exec("lab-disk", "read-only", folder)


def freeze(host: AnyHost) -> None:
    """No process of the host runs, as if it hung or slept; its connections stand."""
    if isinstance(host, LabHost):
        _pause(host)
    elif process := host.process:
        os.kill(process, signal.SIGSTOP)


def _pause(host: LabHost) -> None:
    """Docker gives up freezing a host that is very busy, now and then."""
    from docker.errors import APIError

    for _ in range(9):
        with suppress(APIError):
            host.container.pause()
            return
    host.container.pause()


def thaw(host: AnyHost) -> None:
    """The host goes on where it was frozen, if it was."""
    if isinstance(host, LabHost):
        host.container.reload()
        if host.container.status == "paused":
            host.container.unpause()
    elif process := host.process:
        os.kill(process, signal.SIGCONT)


@contextmanager
def slow(lab: Lab, name: str, *, rate: str, delay: str) -> Iterator[int]:
    """While inside, fleet.toml leads to the host over a link with this rate and delay each way. Gives its port."""
    host = lab.any_host(name)
    argv = [sys.executable, "-m", "fleet.lab.relay", "0", str(host.port), "--rate", rate, "--delay", delay]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as relay:
        assert relay.stdout is not None
        assert relay.stderr is not None
        try:
            said = relay.stdout.readline().strip()
            if not said:
                raise ConfigError(f"no such link: {relay.stderr.read().strip().splitlines()[-1]}")
            with lab.folder.alone():
                lab.folder.write_hosts({name: int(said)}, lab.engine.system)
            yield int(said)
        finally:
            relay.terminate()
            with lab.folder.alone():
                lab.folder.write_hosts({name: host.port}, lab.engine.system)


def restore(host: AnyHost) -> None:
    """Every fault is undone: the host has power, network and space, and may write."""
    thaw(host)
    if not host.is_on:
        host.power_on()
    host.exec("nft", "destroy", "table", "inet", "lab-fault")
    for folder in DISKS:
        host.exec("lab-disk", "restore", folder)
