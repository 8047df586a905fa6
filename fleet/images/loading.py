"""Bring an image to an engine for containers: here, or on a host."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from fleet.errors import CommandFailedError, UnfitError
from fleet.images import partial
from fleet.machine import Command
from fleet.scripts import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from fleet.images.archive import Image
    from fleet.machine import Machine, Output, Stream
    from fleet.model import HostName

ENGINES = ("docker", "podman")
PIECE = 1 << 18
LONGEST = 120.0
"""Seconds for a question to an engine."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an engine is: a machine, how commands there get a stream of bytes, and what to call it."""

    name: HostName
    machine: Machine
    stream: Callable[[Command], AbstractAsyncContextManager[Stream]]
    root: bool = True


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """An image that an engine has."""

    engine: str
    was_there: bool
    """Whether it had it before, so that nothing was sent."""
    sent: int
    """Bytes."""


async def load(place: Place, image: Image, file: Path, *, engine: str = "") -> Loaded:
    """Bring the image in the file to the engine of the place, which has it afterwards, as was asked there.

    Layers that the engine has are not sent, where it does without them. Raise `UnfitError` if there is no engine, and
    `CommandFailedError` if it does not take the image.
    """
    engine = engine or await _engine(place)
    if await _has(place, engine, image):
        return Loaded(engine=engine, was_there=True, sent=0)
    sent = 0
    with file.open("rb") as source, tempfile.TemporaryFile(dir=file.parent) as less:
        if there := partial.shared(partial.layers_of(source), await _layers(place, engine)):
            sent = await asyncio.to_thread(partial.without, source, there, less)
            if (await _send(place, engine, less, sent)).status == 0 and await _has(place, engine, image):
                return Loaded(engine=engine, was_there=False, sent=sent)
        done = await _send(place, engine, source, image.size)
    if done.status != 0 or not await _has(place, engine, image):
        said = done.stderr.splitlines()[-10:]
        raise CommandFailedError(place.name, f"{engine} does not take the image {image.reference}", said=said)
    return Loaded(engine=engine, was_there=False, sent=sent + image.size)


async def _send(place: Place, engine: str, source: IO[bytes], size: int) -> Output:
    """Let the engine load so many bytes, and return how that ended."""
    source.seek(0)
    argv = ("sh", "-c", one_line("fleet.images", "load"), "sh", engine, str(size))
    async with place.stream(Command(argv=argv, root=place.root)) as stream:
        with contextlib.suppress(BrokenPipeError):  # its status and its last lines say why
            while piece := source.read(PIECE):
                await stream.write(piece)
        return await stream.ended()


async def _layers(place: Place, engine: str) -> str:
    """Return what the engine says about the layers of its images; nothing if it says nothing."""
    argv = ("sh", "-c", one_line("fleet.images", "layers"), "sh", engine)
    answer = await place.machine.run(Command(argv=argv, timeout=LONGEST, root=place.root))
    return answer.stdout if answer.status == 0 else ""


async def _engine(place: Place) -> str:
    """Return which engine there is. Raise `UnfitError` if there is none."""
    asked = Command(argv=("sh", "-c", one_line("fleet.images", "engine")), timeout=LONGEST, root=place.root)
    found = (await place.machine.run(asked)).stdout.strip().rpartition("/")[2]
    if found not in ENGINES:
        raise UnfitError(
            place.name,
            "has neither docker nor podman",
            hint="virtualisation.docker.enable or virtualisation.podman.enable on NixOS",
        )
    return found


async def _has(place: Place, engine: str, image: Image) -> bool:
    """Whether the engine has this very image under its name. Engines call it by either digest."""
    argv = (engine, "image", "inspect", "--format", "{{.Id}}", image.reference)
    answer = await place.machine.run(Command(argv=argv, timeout=LONGEST, root=place.root))
    known: set[Any] = {digest.removeprefix("sha256:") for digest in (image.configuration, image.digest)}
    return answer.status == 0 and answer.stdout.strip().removeprefix("sha256:") in known
