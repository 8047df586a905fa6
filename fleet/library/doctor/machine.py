"""Examine this machine: versions, fleet.toml, clock, disk, what is remembered, who is told, and the lab."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fleet import __version__
from fleet.errors import ConfigError, StateError
from fleet.library.doctor.diagnosis import Diagnosis, Patient, State
from fleet.output.format import counted, human_bytes
from fleet.state.threads import in_state
from fleet.text import listed, local_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OLDEST = 1_767_225_600.0
"""No clock that is right shows a time before 2026: fleet is younger."""
UNSYNCHRONISED = 5
"""TIME_ERROR of adjtimex(2)."""
LEAST, LITTLE = 1 << 30, 5 << 30
"""Bytes on the disk of /nix, without which a system is hardly built; and with which one may soon be without."""
LEAST_STATE = 64 << 20
"""Bytes for what fleet writes down of runs."""


async def versions(_: Patient) -> AsyncIterator[Diagnosis]:
    """Tell the versions that a report of a bug should have, and whether asyncssh is the one that is patched."""
    from fleet.machine import patched

    python, asyncssh = platform.python_version(), importlib.metadata.version("asyncssh")
    said = f"fleet {__version__}, Python {python}, asyncssh {asyncssh}, {platform.system()} {platform.machine()}"
    if patched.is_on():
        yield Diagnosis("versions", State.OK, said)
    elif os.environ.get(patched.PLAIN) == "1":
        yield Diagnosis("versions", State.NOTE, f"{said}; {patched.PLAIN} is 1, so pushes are slower", "unset it")
    else:
        remedy = f"install asyncssh {patched.VERSION} beside it, if pushes are too slow"
        yield Diagnosis("versions", State.NOTE, f"{said}, which is not patched, so pushes are slower", remedy)


async def inventory(patient: Patient) -> AsyncIterator[Diagnosis]:
    """Tell whether fleet.toml is there and right."""
    if patient.inventory is not None:
        hosts = counted(len(patient.inventory.hosts), "host")
        yield Diagnosis("fleet.toml", State.OK, f"{patient.file}: {hosts}")
    elif patient.problem is not None and not patient.file.exists():
        remedy = "fleet init, in the folder of your flake; or go there"
        yield Diagnosis("fleet.toml", State.NOTE, "there is none here and in no folder above", remedy)
    elif patient.problem is not None:
        first, *others = patient.problem.message.splitlines()
        more = f"; and {counted(len(others), 'more problem')}" if others else ""
        yield Diagnosis("fleet.toml", State.ERROR, f"{first}{more}", "fleet check shows all of them")


async def clock(_: Patient) -> AsyncIterator[Diagnosis]:
    """Look whether the clock is right: by it plans expire, and certificates are valid."""
    now, remedy = time.time(), "timedatectl set-ntp true; on NixOS services.timesyncd.enable = true"
    shown = local_time(now, "%Y-%m-%d %H:%M:%S %Z")
    if now < OLDEST:
        yield Diagnosis("clock", State.ERROR, f"shows {shown}, which cannot be", remedy)
    elif _kernel_clock() == UNSYNCHRONISED:
        yield Diagnosis("clock", State.NOTE, f"shows {shown}, and nothing keeps it right", remedy)
    else:
        yield Diagnosis("clock", State.OK, shown)


def _kernel_clock() -> int:
    """Return what the kernel thinks of its clock, as adjtimex(2) does; -1 where it does not say."""
    try:
        # It reads `modes` from the beginning, where 0 changes nothing, and fills in the rest: 208 bytes on 64 bits.
        return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)))
    except (OSError, AttributeError):
        return -1


async def disk(_: Patient) -> AsyncIterator[Diagnosis]:
    """Look whether there is room for what is built."""
    store = next((place for place in (Path("/nix/store"), Path("/nix")) if place.is_dir()), None)
    if store is None:
        return  # there is no Nix, which is said already
    free = await asyncio.to_thread(_free, store)
    said = f"{human_bytes(free)} free on {store}"
    if free < LEAST:
        yield Diagnosis("disk", State.ERROR, said, "nix-collect-garbage --delete-older-than 30d")
    elif free < LITTLE:
        yield Diagnosis("disk", State.NOTE, said, "nix-collect-garbage --delete-older-than 30d, before that is gone")
    else:
        yield Diagnosis("disk", State.OK, said)


def _free(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


async def state(patient: Patient) -> AsyncIterator[Diagnosis]:
    """Look whether runs can be recorded: without that nothing is begun."""
    if patient.state is None or patient.inventory is None:
        return
    from fleet.files import state_folder

    folder = state_folder(patient.inventory.name, patient.environment)
    try:
        runs = await in_state(patient.state.runs)
    except StateError as error:
        yield Diagnosis("state", State.ERROR, error.message, error.hint or f"see that you may write to {folder}")
        return
    place = next(each for each in (folder, *folder.parents) if each.exists())
    if not place.is_dir():
        yield Diagnosis("state", State.ERROR, f"{place} is no folder", "XDG_STATE_HOME names another place")
    elif not os.access(place, os.W_OK):
        yield Diagnosis("state", State.ERROR, f"you may not write to {place}", "XDG_STATE_HOME names another folder")
    elif (free := _free(place)) < LEAST_STATE:
        yield Diagnosis("state", State.ERROR, f"{human_bytes(free)} free on the disk of {place}", "make room there")
    else:
        yield Diagnosis("state", State.OK, f"{patient.inventory.state or folder}: {counted(len(runs), 'run')}")


async def slow_links(patient: Patient) -> AsyncIterator[Diagnosis]:
    """Look whether there is what hosts at slow links need here."""
    if patient.inventory is None:
        return
    slow = [host.name for host in patient.inventory.hosts.values() if host.link.value == "slow"]
    if not slow:
        return
    module = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    if _is_installed(module):
        yield Diagnosis("slow links", State.OK, f"what is pushed to {listed(slow, most=4)} goes compressed")
    else:
        said = f"what is pushed to {listed(slow, most=4)} goes uncompressed"
        yield Diagnosis("slow links", State.NOTE, said, "install fleet with its extra delta: pip install '.[delta]'")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # the package around it is not there
        return False


async def being_told(patient: Patient) -> AsyncIterator[Diagnosis]:
    """Look whether the files are there from which tokens come, and whether metrics can be written."""
    if patient.inventory is None:
        return
    from fleet.notify import NotSentError
    from fleet.notify.secret import secret

    for notify in patient.inventory.notify:
        files = (notify.webhook_file, notify.ntfy_file, notify.token_file, notify.password_file)
        try:
            for file in filter(None, files):
                secret(file)
        except NotSentError as error:
            yield Diagnosis(
                "being told", State.ERROR, f"{notify.label}: {error}", "correct the file, then fleet notify"
            )
        else:
            yield Diagnosis("being told", State.OK, f"{notify.label}: fleet notify tries it")
    textfile = patient.inventory.metrics.textfile
    if textfile is not None and not (textfile.parent.is_dir() and os.access(textfile.parent, os.W_OK)):
        remedy = f"make the folder, or see that you may write there: {textfile.parent}"
        yield Diagnosis("being told", State.ERROR, f"the metrics cannot be written to {textfile}", remedy)


async def lab(_: Patient) -> AsyncIterator[Diagnosis]:
    """Look whether `fleet lab` has what it needs: an engine for containers."""
    from fleet.lab import engine

    if not _is_installed("testcontainers"):
        yield Diagnosis(
            "lab", State.NOTE, "no disposable hosts: the extra lab is not installed", "pip install '.[lab]'"
        )
        return
    try:
        await asyncio.to_thread(engine.connect)
    except ConfigError as error:
        yield Diagnosis("lab", State.NOTE, f"no disposable hosts: {error.message}", error.hint)
        return
    yield Diagnosis("lab", State.OK, "a Docker engine answers")
