"""Read the arguments that other deployers give to ssh as keys of fleet.toml."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FLAGS = {"-p": "port", "-i": "identity_file", "-l": "user", "-J": "jump"}
_OPTIONS = {
    "port": "port",
    "identityfile": "identity_file",
    "user": "user",
    "proxyjump": "jump",
    "connecttimeout": "connect_timeout",
}


def keys_of(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the keys of a host that mean the same as the arguments, and the arguments that no key stands for."""
    keys: dict[str, Any] = {}
    unread = []
    for flag, value in _pairs(words):
        name = _FLAGS.get(flag)
        if flag == "-o":
            option, _, value = (part.strip() for part in re.sub(r"^\s*(\w+)\s*(=|\s)\s*", r"\1=", value).partition("="))
            name = _OPTIONS.get(option.lower())
            flag = f"-o {option}" if value == "" else f"-o {option}={value}"
        if name is None or not value:
            unread.append(flag if flag.startswith("-o ") or not value else f"{flag} {value}")
        elif name == "port":
            keys[name] = int(value) if re.fullmatch(r"[0-9]{1,5}", value) else value
        elif name == "connect_timeout":
            keys[name] = f"{value}s"
        else:
            keys[name] = value
    return keys, unread


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each flag with its value, which may be the next word or the rest of the same one."""
    rest = iter(words)
    for word in rest:
        if len(word) > 2 and word[:2] in (*_FLAGS, "-o"):
            yield word[:2], word[2:]
        elif word in (*_FLAGS, "-o"):
            yield word, next(rest, "")
        else:
            yield word, ""
