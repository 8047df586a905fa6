"""Ask a host what is there: with two scripts that change nothing, bounded in time, lines and bytes."""

from __future__ import annotations

import asyncio
import dataclasses
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.drift.observation import observation
from fleet.drift.places import HOME_PLACES, SYSTEM_PLACES
from fleet.errors import AnswerError, CommandFailedError
from fleet.machine import Command
from fleet.scripts import script
from fleet.text import plain_text, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.drift.observed import Observation
    from fleet.machine import Link

LOOK_TIMEOUT = 120.0
"""Seconds. The script's own limits add up to less."""
MOST_ANSWER = 4 << 20
"""Bytes of the answer: each part has its own limit in the script."""
STORE_SECONDS = 5
"""Seconds for which store paths are compared on a host: a few hundred MB."""
STORE_TIMEOUT = 60.0
MOST_WRONG = 100
"""Store paths that are named, at most."""


@dataclass(frozen=True, kw_only=True)
class WrongPath:
    """A store path whose contents are not what Nix has recorded."""

    path: str
    is_gone: bool
    at: int
    uid: int


@dataclass(frozen=True, kw_only=True)
class StoreLook:
    """What a comparison of store paths has shown."""

    wrong: tuple[WrongPath, ...] = ()
    verified: int = 0
    paths: int = 0
    is_done: bool = False
    """Whether the host has told how many paths it compared."""
    contents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The store paths that each profile refers to."""


async def look(link: Link) -> Observation:
    """Return what is there on the host beside its system. Changes nothing there.

    Raise `HostError` if the host cannot be asked, and `AnswerError` if its answer has no end.
    """
    given = {
        "home_script": script("fleet.drift", "home"),
        "home_places": "\n".join(place.path for place in HOME_PLACES),
        "system_places": "\n".join(place.path for place in SYSTEM_PLACES),
    }
    lines = [f"{name}={shlex.quote(text)}\n" for name, text in given.items()]
    text = "".join([*lines, script("fleet.drift", "look")])
    answer = await _sh(link, text, verb=("drift",), timeout=LOOK_TIMEOUT)
    seen = await asyncio.to_thread(observation, answer)
    if not seen.is_complete:
        raise AnswerError(link.host.name, "the answer about what is there was cut short")
    return seen


async def look_at_store(link: Link, profiles: Iterable[str] = ()) -> StoreLook:
    """Compare store paths of the running system with what Nix has recorded there, for `STORE_SECONDS`.

    Find what these profiles, which are store paths, consist of too. Raise `HostError` if the host cannot be asked.
    """
    text, arguments = script("fleet.drift", "store"), (str(STORE_SECONDS), *profiles)
    verb = ("drift-store", *arguments)
    return store_look(await _sh(link, text, *arguments, verb=verb, timeout=STORE_TIMEOUT))


def store_look(answer: str) -> StoreLook:
    """Return what the answer about the store says."""
    wrong: list[WrongPath] = []
    contents: dict[str, list[str]] = {}
    looked = StoreLook()
    for line in answer.splitlines():
        kind, *fields = line.split("\t")
        if kind in ("wrong", "gone") and len(fields) == 3 and len(wrong) < MOST_WRONG:
            path, at, uid = fields
            moment = whole_number(at.partition(".")[0])
            wrong.append(
                WrongPath(path=plain_text(path)[:255], is_gone=kind == "gone", at=moment, uid=whole_number(uid))
            )
        elif kind == "looked" and len(fields) == 2:
            looked = StoreLook(verified=whole_number(fields[0]), paths=whole_number(fields[1]), is_done=True)
        elif kind == "refers" and len(fields) == 2:
            contents.setdefault(fields[0], []).extend([plain_text(fields[1])[:255]] if fields[1] else [])
    return dataclasses.replace(
        looked, wrong=tuple(wrong), contents={profile: tuple(paths) for profile, paths in contents.items()}
    )


async def _sh(link: Link, text: str, *arguments: str, verb: tuple[str, ...], timeout: float) -> str:
    """Return what the script prints. It goes on stdin: as a word of a command it would be read byte by byte."""
    argv = ("nice", "-n", "10", "sh", "-s", "--", *arguments)
    stdin = b"" if link.host.gate else text.encode()  # a gate has the script
    command = Command(argv=argv, stdin=stdin, timeout=timeout, most=MOST_ANSWER, name="the look for drift", verb=verb)
    output = await link.run(command)
    if output.status != 0:
        message = f"the look for drift failed with exit status {output.status}"
        raise CommandFailedError(link.host.name, message, said=output.stderr.splitlines()[-5:])
    return output.stdout
