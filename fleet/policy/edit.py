"""Write digests of tokens into a principals.toml that people wrote, and take them out again."""

from __future__ import annotations

import copy
import re
import tomllib
from typing import TYPE_CHECKING, Any

from fleet.errors import ConfigError
from fleet.files import alone_in
from fleet.inventory import read
from fleet.inventory.edit import reads_as, replace_text
from fleet.inventory.words import nearest, shown
from fleet.policy import principals
from fleet.policy.reading import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def add_token(folder: Path, name: str, digest: str) -> Path:
    """Write the digest into `tokens` of `[principals.NAME]`, change no other line, and return the file.

    Raise `ConfigError` if that cannot be done; the file is as it was then.
    """
    path = folder / principals.FILE
    with alone_in(path.resolve().parent):  # if two tokens are made at the same time, both are kept
        text, document = _read(folder, name)
        wanted = copy.deepcopy(document)
        wanted["principals"][name].setdefault("tokens", []).insert(0, digest)
        _write(path, text, wanted, _additions(text, digest), hint=f'add it by hand: tokens = ["{digest}"]')
    return path


def take_tokens(folder: Path, name: str, prefix: str = "") -> Sequence[str]:
    """Take the digests that begin with `prefix` out of `tokens` of `[principals.NAME]`, and return them.

    Raise `ConfigError` if there is none, or if that cannot be done; the file is as it was then.
    """
    path = folder / principals.FILE
    with alone_in(path.resolve().parent):
        text, document = _read(folder, name)
        held = document["principals"][name].get("tokens", [])
        taken = [one for one in held if one.removeprefix("sha256:").startswith(prefix.removeprefix("sha256:"))]
        if not taken:
            raise ConfigError(f"{path}: {name} has no such token", hint="fleet token list shows what there is")
        after = text
        for digest in taken:
            after = re.sub(rf"""["']{re.escape(digest)}["'][ \t]*,?[ \t]*""", "", after)
        wanted = copy.deepcopy(document)
        wanted["principals"][name]["tokens"] = [one for one in held if one not in taken]
        _write(path, text, wanted, iter([after]), hint="take it out by hand")
    return taken


def _read(folder: Path, name: str) -> tuple[str, dict[str, Any]]:
    """Return the text of the file and what it says. Raise `ConfigError` if it is wrong, or has nobody of that name."""
    path = folder / principals.FILE
    known = principals.load(folder)
    if known is None:
        hint = "it says who there is: docs/policy.md"
        raise ConfigError(f"{path}: there is no such file", hint=hint)
    if name not in known.tables:
        near = nearest(name, list(known.tables)).lstrip("; ")
        raise ConfigError(f"{path}: {shown(name)} is nobody in it", hint=near or f"add {place_of('principals', name)}")
    text = read(path)
    return text, tomllib.loads(text, parse_float=str)


def _additions(text: str, digest: str) -> Iterator[str]:
    """Yield texts that may be right. The caller has to verify: this only knows lines."""
    newline = "\r\n" if "\r\n" in text else "\n"
    for found in re.finditer(r"""(?m)^[ \t]*["']?tokens["']?[ \t]*=[ \t]*\[""", text):
        gap = "" if re.match(r"\s*\]", text[found.end() :]) else ", "
        yield f'{text[: found.end()]}"{digest}"{gap}{text[found.end() :]}'
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("["):
            ended = line if line.endswith("\n") else line + newline
            yield "".join([*lines[: number - 1], ended, f'tokens = ["{digest}"]{newline}', *lines[number:]])


def _write(path: Path, text: str, wanted: dict[str, Any], edits: Iterator[str], *, hint: str) -> None:
    after = next((edit for edit in edits if reads_as(edit, wanted)), None)
    if after is None or after == text:
        raise ConfigError(f"{path}: cannot be changed without touching other lines", hint=hint)
    replace_text(path, path.resolve(), after)
