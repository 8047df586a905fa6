"""Write host keys, and the id of the fleet, into a fleet.toml that people wrote."""

from __future__ import annotations

import copy
import re
import stat
import tomllib
from typing import TYPE_CHECKING, Any

from fleet.errors import ConfigError
from fleet.files import alone_in, replace_file
from fleet.inventory import parse, read, values
from fleet.inventory.problems import dotted
from fleet.model import HostName

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def set_host_keys(path: Path, keys: Mapping[HostName, str]) -> None:
    """Write each key as `host_key` of `[hosts.NAME]` in the file, all at once, and change no other byte.

    Raise `ConfigError` if that cannot be done; the file is as it was then.
    """
    lines = {host: f'host_key = "{_checked(path, key)}"' for host, key in keys.items()}
    real = path.resolve()
    with alone_in(real.parent):  # if two keys are trusted at the same time, both are kept
        text = read(path)
        document = parse_document(path, text)
        for name, line in lines.items():
            host = _computer(document["hosts"], name)
            text = _with_host_key(path, text, document, host, line)
            document["hosts"][host]["host_key"] = keys[name]
        replace_text(path, real, text)


def _computer(hosts: Mapping[str, Any], name: HostName) -> HostName:
    """Return the host that this is a profile of, since it is reached as that is; or the host itself."""
    owners = (owner for owner, table in hosts.items() if name.removeprefix(f"{owner}.") in table.get("profiles", ()))
    return name if name in hosts else HostName(next(owners, name))


def set_id(path: Path, made: str) -> str:
    """Write the id of the fleet as `id` of `[fleet]`, unless the file has one, and change no other byte.

    Return the id that the file has then. Raise `ConfigError` if it cannot be written; the file is as it was then.
    """
    real = path.resolve()
    with alone_in(real.parent):  # if two plans are signed at the same time, both get the same id
        text = read(path)
        wanted = parse_document(path, text)
        table = wanted.setdefault("fleet", {})
        if "id" in table:
            return str(table["id"])
        table["id"] = made
        line = f'id = "{made}"'
        after = next((edit for edit in _edits_of_fleet(text, line) if reads_as(edit, wanted)), None)
        if after is None:
            hint = f"add it by hand: {line}"
            raise ConfigError(f"{path}: cannot write id into [fleet] without touching other lines", hint=hint)
        parse(path, after)
        replace_text(path, real, after)
    return made


def _edits_of_fleet(text: str, line: str) -> Iterator[str]:
    """Yield texts that may be right, as `_edits` does."""
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    for number, old in enumerate(lines, 1):
        if re.match(r"\s*\[\s*fleet\s*\]", old):
            ended = old if old.endswith("\n") else old + newline
            yield "".join([*lines[: number - 1], ended, line + newline, *lines[number:]])
    yield f"[fleet]{newline}{line}{newline}{newline}{text}"


def _with_host_key(path: Path, text: str, document: dict[str, Any], host: str, line: str) -> str:
    """Return the text with the line in the table of the host. `document` is what the text says."""
    place = f"[{dotted('hosts', host)}]"
    if host not in document.get("hosts", {}):
        raise ConfigError(f"{path}: there is no {place}")
    wanted = copy.deepcopy(document)
    table = wanted["hosts"][host]
    after = None
    if isinstance(table, dict):
        table["host_key"] = tomllib.loads(line)["host_key"]
        after = next((edit for edit in _edits(text, host, line) if reads_as(edit, wanted)), None)
    if after is None:
        raise ConfigError(
            f"{path}: cannot write host_key into {place} without touching other lines", hint=f"add it by hand: {line}"
        )
    return after


def parse_document(path: Path, text: str) -> dict[str, Any]:
    """Return the tables of the file. Raise `ConfigError` if it is not a valid inventory."""
    parse(path, text)
    return tomllib.loads(text, parse_float=str)


def _checked(path: Path, key: str) -> str:
    try:
        return values.host_key(key)
    except ValueError as error:
        raise ConfigError(f"{path}: host_key: {error}") from None


def _edits(text: str, host: str, line: str) -> Iterator[str]:
    """Yield texts that may be right, the most natural one first. The caller has to verify: this only knows lines."""
    lines = text.splitlines(keepends=True)
    newline = "\r\n" if "\r\n" in text else "\n"
    for number, old in enumerate(lines):
        if match := re.match(r"""(\s*(?:[^\s=]+\s*\.\s*)?["']?host_key["']?\s*=\s*)("[^"]*"|'[^']*')""", old):
            new = f"{match[1]}{line.partition(' = ')[2]}{old[match.end() :]}"
            yield "".join([*lines[:number], new, *lines[number + 1 :]])
    for number, old in enumerate(lines, 1):
        if _is_header(old, host):
            ended = old if old.endswith("\n") else old + newline
            yield "".join([*lines[: number - 1], ended, line + newline, *lines[number:]])
    gap = "" if text.endswith("\n") else newline
    yield f"{text}{gap}{newline}[{dotted('hosts', host)}]{newline}{line}{newline}"


def _is_header(line: str, host: str) -> bool:
    if not line.lstrip().startswith("["):
        return False
    try:
        return tomllib.loads(line) == {"hosts": {host: {}}}
    except tomllib.TOMLDecodeError:
        return False


def reads_as(text: str, wanted: dict[str, Any]) -> bool:
    """Whether the text says just that."""
    try:
        return tomllib.loads(text, parse_float=str) == wanted
    except tomllib.TOMLDecodeError:
        return False


def replace_text(path: Path, real: Path, text: str) -> None:
    """Replace the text of the file and keep its mode, or leave it as it was."""
    try:
        replace_file(real, text.encode(), mode=stat.S_IMODE(real.stat().st_mode), durable=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
