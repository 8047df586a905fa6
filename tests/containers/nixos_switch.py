"""NixOS's own switch-to-configuration on lab hosts, where FLEET_STC names the program of nixpkgs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fleet.lab import Lab, LabHost

PROGRAM = os.environ.get("FLEET_STC", "")
PLACE = "/usr/local/lib/switch-to-configuration"
needs_program = pytest.mark.skipif(not PROGRAM, reason="FLEET_STC does not name NixOS's switch-to-configuration")
_AS_ON_NIXOS = r"""
rm -f /etc/systemd/system.conf /etc/fstab /etc/systemd/system/systemd-logind.service
units=/usr/local/lib/systemd/user
mkdir -p $units/sockets.target.wants
printf '[Socket]\nListenStream=%%t/bus\n' >$units/dbus.socket
printf '[Service]\nType=notify\nExecStart=/usr/bin/dbus-daemon --session --address=systemd: --nofork --nopidfile\n' \
    >$units/dbus.service
ln -sf ../dbus.socket $units/sockets.target.wants/dbus.socket
systemctl daemon-reload && systemctl start systemd-logind
"""
"""What the program asks a host about: files of /etc that a closure has or nobody, who is logged in, and their buses."""
_STAND_ON = """
nix-env -p /nix/var/nix/profiles/system --set "$1" &&
"$1/bin/switch-to-configuration" boot && "$1/bin/switch-to-configuration" test
"""


def adopt(lab: Lab) -> None:
    """Where there is the program, the lab's closures that are built from now on switch by it."""
    if not PROGRAM:
        return
    system = lab.folder.path / "system.nix"
    before = system.read_text()
    system.write_text(before.replace("switchToConfiguration = null;", f'switchToConfiguration = "{PLACE}";'))
    assert system.read_text() != before
    for host in lab.hosts:
        _install(host)


def leave_generation_1(lab: Lab) -> None:
    """Where there is the program, every host stands on a generation 2 that it can switch from."""
    if not PROGRAM:
        return
    argv = ["nix-build", "--no-out-link", str(lab.folder.path / "system.nix"), "--argstr", "name", "lab"]
    closure = _said(*argv, "--argstr", "system", lab.engine.system)
    for host in lab.hosts:
        _bring(host, closure)
        host.exec("sh", "-c", _STAND_ON, "sh", closure)


def _install(host: LabHost) -> None:
    program = Path(PROGRAM).resolve(strict=True)
    if program.is_relative_to("/nix/store"):
        _bring(host, str(program))
        host.exec("ln", "-sfn", str(program), PLACE)
    else:
        _feed(host, program.read_bytes(), "sh", "-c", f"cat >{PLACE} && chmod 755 {PLACE}")
    host.exec("sh", "-c", _AS_ON_NIXOS)


def _bring(host: LabHost, path: str) -> None:
    """The path is in the host's store, with all that it needs."""
    paths = _said("nix-store", "-qR", path).split()
    export = subprocess.run(["nix-store", "--export", *paths], check=True, capture_output=True).stdout
    _feed(host, export, "nix-store", "--import")


def _feed(host: LabHost, data: bytes, *argv: str) -> None:
    subprocess.run(["docker", "exec", "-i", host.container.name, *argv], input=data, check=True, capture_output=True)


def _said(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
