"""Examine what logs in to hosts."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import HostError
from fleet.library.doctor.diagnosis import Diagnosis, Patient, State
from fleet.machine import Command
from fleet.machine.keys import agent_keys
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

USUAL = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
"""The files that OpenSSH tries by itself: ssh_config(5), IdentityFile."""
PATIENCE = 5.0
"""Seconds that an agent has to answer."""
MAKE_A_KEY = "ssh-keygen -t ed25519, and add ~/.ssh/id_ed25519.pub to the user of each host"


async def program(patient: Patient) -> AsyncIterator[Diagnosis]:
    """Look for OpenSSH, which says how hosts are reached."""
    try:
        asked = await patient.here.run(Command(argv=("ssh", "-V"), root=False, timeout=20))
    except HostError:
        remedy = "install an OpenSSH client: without it ~/.ssh/config counts only in part, and there is no fleet ssh"
        yield Diagnosis("ssh", State.NOTE, "there is no ssh", remedy)
        return
    yield Diagnosis("ssh", State.OK, (asked.stderr or asked.stdout).strip().split(",")[0][:80])


async def agent(patient: Patient) -> AsyncIterator[Diagnosis]:
    """Look whether the agent answers that the environment names."""
    place = patient.environment.get("SSH_AUTH_SOCK", "")
    if not place:
        remedy = 'eval "$(ssh-agent)" && ssh-add, if a key has a passphrase'
        yield Diagnosis("ssh agent", State.NOTE, "there is none: SSH_AUTH_SOCK is not set", remedy)
        return
    count = await _held(place)
    if count is None:
        remedy = f"start it again, or unset SSH_AUTH_SOCK; it names {place}"
        yield Diagnosis("ssh agent", State.ERROR, "does not answer", remedy)
    elif count == 0:
        yield Diagnosis("ssh agent", State.NOTE, "answers, and holds no key", "ssh-add")
    else:
        yield Diagnosis("ssh agent", State.OK, f"holds {count} {'key' if count == 1 else 'keys'}")


async def _held(place: str) -> int | None:
    """Return how many keys the agent holds; None if it does not answer."""
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_unix_connection(place)
            writer.close()
            async with agent_keys(place) as held:
                return len(held)
    except OSError:  # which TimeoutError is
        return None


async def keys(patient: Patient) -> AsyncIterator[Diagnosis]:
    """Look whether there is a key to log in with, and whether nobody else can read it."""
    folder = patient.home / ".ssh"
    named = (
        {}
        if patient.inventory is None
        else {
            host.identity_file: host.name for host in patient.inventory.hosts.values() if host.identity_file is not None
        }
    )
    for file, host in named.items():
        if not file.is_file():
            said = f"{file} is not there, which is the identity_file of {host}"
            yield Diagnosis("keys", State.ERROR, said, "correct identity_file, or put the key there")
    there = [file for file in (*named, *(folder / name for name in USUAL)) if file.is_file()]
    for file in there:
        if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            said = f"others may read {file}, so that fleet ssh does not use it, and deployments do"
            yield Diagnosis("keys", State.NOTE, said, f"chmod 600 {file}")
    place = patient.environment.get("SSH_AUTH_SOCK", "")
    held = (await _held(place) or 0) if place else 0
    if there or held:
        names = [str(Path("~/.ssh") / file.name if file.parent == folder else file) for file in there]
        yield Diagnosis("keys", State.OK, listed([*names, *(["the agent's"] if held else [])], most=6))
    elif not named:
        said = f"there is none in {folder}, and none in an agent"
        yield Diagnosis("keys", State.ERROR, said, f"{MAKE_A_KEY}; or name another file: identity_file")


async def host_keys(patient: Patient) -> AsyncIterator[Diagnosis]:
    """Look which hosts have no key in fleet.toml: then known_hosts must have it."""
    if patient.inventory is None:
        return
    without = [host.name for host in patient.inventory.hosts.values() if host.host_key is None]
    if not without:
        yield Diagnosis("host keys", State.OK, "every host has its host_key")
        return
    said = f"{listed(without, most=4)}: no host_key, so only your known_hosts can know the key"
    yield Diagnosis("host keys", State.NOTE, said, "fleet trust --all")
