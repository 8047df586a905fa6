"""Read the values of fleet.toml that say which systems hosts have: flakes, and attributes in them.

Each reader returns the value, or raises a ValueError that says what was found and what was expected.
"""

from __future__ import annotations

import re
from pathlib import Path

from fleet.inventory.values import line, text
from fleet.inventory.words import expected, shown

RESERVED = {
    "pure-eval": "fleet decides it: flakes are evaluated purely, and files are not",
    "eval-cache": "fleet decides it, and has a cache of its own",
    "store": "fleet pushes what is in this machine's store",
    "access-tokens": "fleet.toml and plans are no places for secrets; it belongs to your own nix.conf",
}
"""Options of Nix that `nix_options` must not have, each with the reason."""
FILE = "file:"
"""How the reference of a file with an expression begins, before its absolute path."""
NAME = "{name}"
"""Stands for the name of the host in an address and in an attribute path, so that [defaults] can have them."""
_ATTR_PART = re.compile(r'"((?:[^"\\]|\\.)*)"|([A-Za-z_][A-Za-z0-9_\'-]*)|(\{name\})')


def named(value: object, host: str) -> object:
    """Return the value with the name of the host in place of each `{name}` in its strings."""
    if isinstance(value, list | tuple):
        return [named(each, host) for each in value]
    return value.replace(NAME, host) if isinstance(value, str) else value


def nix_options(value: object) -> dict[str, str]:
    """Read a table of Nix options, and return their values as Nix takes them."""
    if not isinstance(value, dict):
        raise expected(value, "a table of Nix options: [fleet.nix_options]")
    options = {}
    for name, given in value.items():
        if re.fullmatch(r"[a-z][a-z0-9-]*", name) is None:
            raise ValueError(f"{expected(name, 'the name of a Nix option such as cores')}")
        if reason := RESERVED.get(name.removeprefix("extra-")):
            raise ValueError(f"{name}: {reason}")
        if not isinstance(given, str | int) or (isinstance(given, str) and not (given + " ").isprintable()):
            what = "one string, with spaces between its words" if isinstance(given, list) else "text on one line"
            raise ValueError(f"{name}: {expected(given, f'{what}, a whole number, true or false')}")
        options[name] = str(given).lower() if isinstance(given, bool) else str(given)
    return options


def attribute(value: object, host: str) -> tuple[str, ...]:
    """Read a Nix attribute path and return its parts. It is split at dots outside of quotes.

    A part `{name}` becomes the name of the host.
    """
    if isinstance(value, tuple):
        return value
    word = text(value, "an attribute path")
    parts: list[str] = []
    at = 0
    while match := _ATTR_PART.match(word, at):
        quoted, bare, _ = match.groups()
        parts.append(re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare or host)
        at = match.end()
        if at == len(word):
            return tuple(parts)
        if word[at] != ".":
            break
        at += 1
    raise expected(value, 'an attribute path such as nixosConfigurations."my.host".config.system.build.toplevel')


def expression(value: object, folder: Path) -> str:
    """Read the path of a file with a Nix expression, and return it as `file:/…`: no flake reference looks so.

    A folder stands for its default.nix.
    """
    word = text(value, 'a file such as "default.nix"')
    if not line(word) or "<" in word:
        raise expected(value, 'a file such as "default.nix"')
    try:
        path = (folder / Path(word).expanduser()).resolve()
    except RuntimeError:
        raise expected(value, "a path whose ~ can be resolved") from None
    return f"{FILE}{path if path.suffix == '.nix' else path / 'default.nix'}"


def is_expression(reference: str) -> bool:
    """Whether this is what `expression` returns, and no reference of a flake."""
    return reference.startswith(f"{FILE}/") and reference.endswith(".nix")


def flake(value: object, folder: Path) -> str:
    """Read a flake reference, and return one that means the same from every folder."""
    word = text(value, 'a flake reference such as "." or "github:owner/repo"')
    if "#" in word:
        raise expected(value, "a flake without '#': the attribute belongs to attr of a host")
    if is_expression(word):
        raise expected(value, 'a flake; without a flake write expression = "…" in [fleet]')
    if not line(word).startswith("path:") and re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", word):
        return word
    place, question, query = word.removeprefix("path:").partition("?")
    scheme = "path:" if word.startswith("path:") else ""
    try:
        path = (folder / Path(place.removeprefix("//")).expanduser()).resolve()
    except RuntimeError:
        raise expected(value, "a folder whose ~ can be resolved") from None
    if path.is_file():
        raise expected(value, 'the folder of a flake; without a flake write expression = "…" in [fleet]')
    whole = str(path)
    if "#" in whole or "?" in whole:
        raise ValueError(f"is in the folder {shown(whole)}, but Nix cannot read '#' and '?' in a folder's name")
    return f"{scheme}{whole}{question}{query}"
