"""Examine what systems are evaluated and built with."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

from fleet import nix as commands
from fleet.errors import HostError
from fleet.library.doctor.diagnosis import Diagnosis, Patient, State
from fleet.machine import Command
from fleet.source import git as git_commands
from fleet.text import listed, parsed_json, shortened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

OLDEST = (2, 8)
"""The oldest Nix that fleet was tried with."""
BINFMT = Path("/proc/sys/fs/binfmt_misc")
EMULATORS = {"aarch64-linux": "qemu-aarch64", "armv7l-linux": "qemu-arm", "riscv64-linux": "qemu-riscv64"}
"""The names under which Debian and NixOS's boot.binfmt register emulators; NixOS uses the name of the system."""
GET_NIX = "install it: nixos.org/download"


async def nix(patient: Patient) -> AsyncIterator[Diagnosis]:
    """Look for a Nix that is new enough and works."""
    try:
        asked = await patient.here.run(Command(argv=("nix", "--version"), root=False, timeout=20))
    except HostError as error:
        yield Diagnosis("nix", State.ERROR, error.message, GET_NIX)
        return
    said = shortened(asked.stdout.strip(), 80)
    version = re.search(r"([0-9]+)\.([0-9]+)", said)
    if asked.status != 0 or version is None:
        yield Diagnosis("nix", State.ERROR, f"nix --version says {said or shortened(asked.stderr, 200)!r}", GET_NIX)
        return
    if (int(version[1]), int(version[2])) < OLDEST:
        yield Diagnosis("nix", State.ERROR, f"{said} is older than {'.'.join(map(str, OLDEST))}", "update it")
        return
    reached = await patient.here.run(Command(argv=(*commands.NIX, "store", "ping"), root=False, timeout=20))
    if reached.status != 0:
        last = (reached.stderr.strip().splitlines() or ["no answer"])[-1]
        remedy = "is nix-daemon running? systemctl status nix-daemon; may you use it? see allowed-users in nix.conf"
        yield Diagnosis("nix", State.ERROR, f"the store does not answer: {shortened(last, 200)}", remedy)
        return
    yield Diagnosis("nix", State.OK, said)


async def builds(patient: Patient) -> AsyncIterator[Diagnosis]:
    """Look whether this machine can build for the hosts whose systems are not its own."""
    if patient.inventory is None:
        return
    settings = await _settings(patient)
    if not settings:
        return  # without Nix nothing is built here, which is told already
    own = {str(settings.get("system", "")), *map(str, _list(settings.get("extra-platforms")))}
    foreign: dict[str, list[str]] = {}
    for host in patient.inventory.hosts.values():
        if host.build_on.value == "controller" and host.system not in own:
            foreign.setdefault(host.system, []).append(host.name)
    if not foreign:
        yield Diagnosis("builds", State.OK, f"builds for {listed(sorted(own - {''}))}")
        return
    builders = _builders(settings)
    for system, hosts in foreign.items():
        who = f"{listed(hosts, most=4)} {'needs' if len(hosts) == 1 else 'need'} {system}"
        if system in builders:
            yield Diagnosis("builds", State.OK, f"{who}, for which there is a builder")
        elif _is_emulated(system):
            remedy = f"extra-platforms = {system} in nix.conf; on NixOS boot.binfmt.emulatedSystems does both"
            yield Diagnosis("builds", State.ERROR, f"{who}, which is emulated here, but Nix does not know that", remedy)
        else:
            remedy = (
                f'one of: build_on = "target" for these hosts, a builder (docs/modules.md), or emulation: '
                f'boot.binfmt.emulatedSystems = [ "{system}" ] on NixOS, qemu-user-static elsewhere. What a cache has '
                f"needs none of them"
            )
            yield Diagnosis("builds", State.ERROR, f"{who}, and nothing here can build that", remedy)


async def _settings(patient: Patient) -> dict[str, object]:
    """Return Nix's settings by name; none if it does not tell."""
    for command in commands.SETTINGS:
        try:
            asked = await patient.here.run(dataclasses.replace(command, timeout=20))
            found = parsed_json(asked.stdout) if asked.status == 0 else None
        except (HostError, ValueError):
            continue
        if isinstance(found, dict):
            return {name: about.get("value") for name, about in found.items() if isinstance(about, dict)}
    return {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _builders(settings: Mapping[str, object]) -> set[str]:
    """Return the systems that remote builders have: the second word of each line, as nix.conf(5) says of `builders`."""
    text = str(settings.get("builders") or "")
    lines = []
    for line in text.replace(";", "\n").splitlines():
        if line.strip().startswith("@"):
            file = Path(line.strip()[1:])
            lines += file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
        else:
            lines.append(line)
    words = [line.split("#")[0].split() for line in lines]
    return {system for line in words if len(line) > 1 for system in line[1].split(",")}


def _is_emulated(system: str) -> bool:
    """Whether the kernel starts programs of this system by an emulator."""
    return any((BINFMT / name).exists() for name in (system, EMULATORS.get(system, system)))


async def git(patient: Patient) -> AsyncIterator[Diagnosis]:
    """Look whether git is there where the flake is in git, and knows fleet.toml: Nix sees only what git knows."""
    folder = patient.file.resolve().parent
    is_in_git = any((place / ".git").exists() for place in (folder, *folder.parents))
    try:
        top = await patient.here.run(git_commands.root(folder))
    except HostError:
        if is_in_git:
            yield Diagnosis(
                "git", State.ERROR, "there is no git, and the folder of fleet.toml is in git", "install git"
            )
        else:
            yield Diagnosis("git", State.NOTE, "there is no git", "install it, if flakes are in git")
        return
    if top.status != 0 or not patient.file.is_file():
        yield Diagnosis("git", State.OK, "is there")
        return
    listed_files = await patient.here.run(
        git_commands.files(Path(top.stdout.removesuffix("\n")), "--", str(patient.file.resolve()))
    )
    if listed_files.status == 0 and not listed_files.stdout:
        said = f"git does not know {patient.file.name}, so Nix will not see it"
        yield Diagnosis("git", State.ERROR, said, f"git add {patient.file}")
        return
    yield Diagnosis("git", State.OK, f"knows {patient.file.name}")
