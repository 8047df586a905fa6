"""Read systems on machines that have sh, coreutils, findutils and Nix, with two commands for each system."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
from typing import TYPE_CHECKING

from fleet.diff.compare import SystemDiff, compare, needed_texts
from fleet.diff.system import UNITS, SystemFacts
from fleet.errors import AnswerError, FleetError
from fleet.machine import Command, Machine
from fleet.machine.local import HERE
from fleet.model import NOTHING
from fleet.scripts import script
from fleet.text import whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fleet.model import Closure

_MOST_BYTES = 64 * 1024
_MOST_FILES = 200
_MOST_ANSWER = 20 << 20
"""Bytes of an answer, at most: all files that are read at their longest, in base64."""
_LONGEST_NAME = 255
"""Characters of the name of a store path, or of a part of a path. No file system allows more."""
_TIMEOUT = 120.0
"""Seconds. A slow disk may have to read some thousand small files."""


async def read_diff(old_machine: Machine, old: Closure, new_machine: Machine, new: Closure) -> SystemDiff:
    """Return what differs between two closures, on one machine or on two. Runs four commands at most.

    Raise `HostError` if a machine does not answer, or not with what describes a system, and `FleetError` if it has not
    the closure.
    """
    before, after = await read_system(old_machine, old), await read_system(new_machine, new)
    wanted = needed_texts(before, after)
    before = dataclasses.replace(before, texts=await read_texts(old_machine, old, wanted))
    after = dataclasses.replace(after, texts=await read_texts(new_machine, new, wanted))
    return await asyncio.to_thread(compare, before, after)


async def read_system(machine: Machine, closure: Closure) -> SystemFacts:
    """Return the facts of a closure in the machine's store, without texts. Runs one command, or none for `NOTHING`."""
    if closure == NOTHING:
        return SystemFacts(closure=closure)
    answer = await _sh(machine, "system", closure)
    with _understood(machine, closure):
        return await asyncio.to_thread(parse_system, closure, answer)


async def read_texts(machine: Machine, closure: Closure, paths: Iterable[str]) -> dict[str, str | None]:
    """Return the contents of files below the closure's `etc`; None for one that is not text or over 64 KiB.

    Runs one command. Reads only the first 200 paths, and leaves out files that do not exist.
    """
    wanted = [path for path in paths if "\n" not in path][:_MOST_FILES]
    if not wanted:
        return {}
    lines = await _sh(machine, "texts", closure, str(_MOST_BYTES + 1), stdin="\n".join(wanted) + "\n")
    with _understood(machine, closure):
        files = [line.split("\t", 1) for line in lines.splitlines()[:_MOST_FILES]]
        return {path: _text(base64.b64decode(content)) for content, path in files if path in wanted}


async def _sh(machine: Machine, name: str, *arguments: str, stdin: str = "") -> str:
    argv = ("sh", "-c", script("fleet.diff", name), "fleet-diff", *arguments)
    verb = ({"system": "diff"}.get(name, name), *arguments)
    command = Command(argv=argv, stdin=stdin.encode(), timeout=_TIMEOUT, root=False, most=_MOST_ANSWER, verb=verb)
    output = await machine.run(command)
    if output.status != 0:
        stderr = output.stderr.splitlines()[-5:]
        raise FleetError(f"cannot read {arguments[0]} (exit status {output.status})", said=stderr)
    return output.stdout


@contextlib.contextmanager
def _understood(machine: Machine, closure: Closure) -> Iterator[None]:
    """Raise `AnswerError` for an answer that cannot be parsed, while inside."""
    try:
        yield
    except ValueError as error:
        host = getattr(machine, "host", None)
        message = f"the answer about {closure} is no description of a system"
        raise AnswerError(host.name if host is not None else HERE, message) from error


def _text(content: bytes) -> str | None:
    if len(content) > _MOST_BYTES or b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def parse_system(closure: Closure, answer: str) -> SystemFacts:
    """Return the facts that the reading script has printed. Raise `ValueError` for anything else."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in answer.splitlines():
        if line.startswith("%"):
            lines = sections.setdefault(line[1:], [])
        else:
            lines.append(line)
    get = sections.get
    files = dict(_file(line) for line in (*get("sums", []), *get("links", [])))
    files |= {_below_etc(path): "masked" for path in get("masked", [])}
    for alias in map(_below_etc, get("aliases", [])):
        files.pop(alias, None)
    if any(len(part) > _LONGEST_NAME for path in (*files, *get("paths", [])) for part in path.split("/")):
        raise ValueError("a name is too long")
    return SystemFacts(
        closure=closure,
        paths=dict(zip(get("paths", []), map(whole_number, get("sizes", [])), strict=True)),
        files=files,
        wants=_wants(get("wants", [])),
        parts={part: value for value, part in (line.rsplit("  ", 1) for line in get("parts", []))},
    )


def _file(line: str) -> tuple[str, str]:
    """Parse a line of sha256sum, which escapes backslashes in names and puts one before the line to say so."""
    content, path = line.split("  ", 1)
    if content.startswith("\\"):
        content, path = content[1:], path.replace("\\\\", "\\")
    return _below_etc(path), content


def _below_etc(path: str) -> str:
    return path.removeprefix("etc/")


def _wants(paths: Iterable[str]) -> Mapping[str, frozenset[str]]:
    wants: dict[str, set[str]] = {}
    for path in paths:
        folder, _, unit = _below_etc(path).removeprefix(UNITS).partition("/")
        wants.setdefault(folder.rpartition(".")[0], set()).add(unit)
    return {wanter: frozenset(units) for wanter, units in wants.items()}
