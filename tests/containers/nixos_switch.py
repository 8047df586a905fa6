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
_AS_ON_NIXOS = """\
rm -f /etc/systemd/system.conf /etc/fstab /etc/systemd/system/systemd-logind.service
systemctl daemon-reload && systemctl start systemd-logind
"""
"""What the program asks a host about: files of /etc that a closure has or nobody, and who is logged in."""


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


def _install(host: LabHost) -> None:
    program = Path(PROGRAM).resolve(strict=True)
    if program.is_relative_to("/nix/store"):
        paths = subprocess.run(["nix-store", "-qR", program], check=True, capture_output=True, text=True).stdout
        export = subprocess.run(["nix-store", "--export", *paths.split()], check=True, capture_output=True).stdout
        _feed(host, export, "nix-store", "--import")
        host.exec("ln", "-sfn", str(program), PLACE)
    else:
        _feed(host, program.read_bytes(), "sh", "-c", f"cat >{PLACE} && chmod 755 {PLACE}")
    host.exec("sh", "-c", _AS_ON_NIXOS)


def _feed(host: LabHost, data: bytes, *argv: str) -> None:
    subprocess.run(["docker", "exec", "-i", host.container.name, *argv], input=data, check=True, capture_output=True)
