"""Write single values of plans and parts as text, and read them back.

Text that fleet does not write raises `ValueError`.
"""

from __future__ import annotations

import functools
import json
import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleet.inventory import Check, Hook, SecretPlace, values
from fleet.inventory.windows import window
from fleet.plans.text import NONE, document, number, unescaped, words

if TYPE_CHECKING:
    import enum
    from collections.abc import Callable, Iterator

    from fleet.plans.text import Lines


@dataclass(frozen=True)
class Codec:
    """The two functions between a value and its text."""

    write: Callable[[Any], str]
    read: Callable[[str], Any]


@dataclass(frozen=True)
class Field:
    """A line of a text, and the attribute that it holds.

    Two attributes, separated by a space, share a line as a pair.
    """

    key: str
    attribute: str
    codec: Codec
    is_list: bool = False
    """Whether the attribute is a tuple, with a line for each of its items."""
    unless: object = None
    """The value for which there is no line; None if there always is one."""

    @functools.cached_property
    def get(self) -> Callable[[object], Any]:
        """A function that returns the attribute of a value, or both attributes."""
        return operator.attrgetter(*self.attribute.split())


def lines_of(value: object, fields: tuple[Field, ...]) -> Iterator[tuple[str, str]]:
    """Yield the lines of a value, in the order of its fields."""
    for field in fields:
        found = field.get(value)
        if field.unless is not None and found == field.unless:
            continue
        for item in found if field.is_list else (found,):
            yield field.key, field.codec.write(item)


def attributes_of(lines: Lines, fields: tuple[Field, ...]) -> dict[str, Any]:
    """Read the attributes from the next lines. Raise `TextError`, which names the line, if one does not fit."""
    attributes: dict[str, Any] = {}
    for field in fields:
        names = field.attribute.split()
        if field.unless is not None and not lines.has_next(field.key):
            attributes[field.attribute] = field.unless
            continue
        found = (lines.each if field.is_list else lines.read)(field.key, field.codec.read)
        attributes |= zip(names, found if len(names) > 1 else (found,), strict=True)
    return attributes


def pair(first: Codec, second: Codec) -> Codec:
    """Return a codec for two values on one line. The text of the first must have no spaces."""

    def read(value: str) -> tuple[Any, Any]:
        one, _, other = value.partition(" ")
        return first.read(one), second.read(other)

    return Codec(lambda both: f"{first.write(both[0])} {second.write(both[1])}", read)


def matching(pattern: str, what: str) -> Codec:
    """Return a codec for text that matches the pattern. Errors call it `what`."""
    compiled = re.compile(pattern)

    def read(value: str) -> str:
        if compiled.fullmatch(value) is None:
            raise ValueError(f"found {value[:80]!r}, expected {what}")
        return value

    return Codec(str, read)


def optional(codec: Codec, *, none: object = "") -> Codec:
    """Return a codec that also accepts no value."""
    return Codec(
        lambda value: codec.write(value) if value not in (None, "") else NONE,
        lambda value: none if value == NONE else codec.read(value),
    )


def one_of(kind: type[enum.StrEnum]) -> Codec:
    """Return a codec for the words of an enum."""
    return Codec(lambda value: str(value.value), kind)


def either(no: str, yes: str) -> Codec:
    """Return a codec for a boolean that is written as one of two words."""

    def read(value: str) -> bool:
        if value not in (no, yes):
            raise ValueError(f"found {value[:80]!r}, expected {yes} or {no}")
        return value == yes

    return Codec(lambda value: yes if value else no, read)


def _at_least_0(read: Callable[[str], float]) -> Callable[[str], Any]:
    """Let a reader of numbers accept only those from 0 to 1e15."""

    def reading(value: str) -> float:
        found = read(value)
        if not 0 <= found < 1e15:
            raise ValueError(f"found {value[:80]!r}, expected a number of at least 0")
        return found

    return reading


def json_of(kind: Callable[[Any], Any], plain: Callable[[Any], object]) -> Codec:
    """Return a codec for a value as JSON: `plain` turns it into data, and `kind` builds it from data."""
    return Codec(lambda value: document(plain(value)), lambda value: kind(json.loads(value)))


NAME = Codec(str, values.name)
TEXT = Codec(words, unescaped)
COUNT = Codec(number, _at_least_0(int))
SECONDS = Codec(number, _at_least_0(float))
YES = either("no", "yes")
STORE_PATH = matching(r"/nix/store/[0-9a-z]{32}-[0-9a-zA-Z+._?=-]+", "a store path")
SHA256 = matching(r"[0-9a-f]{64}", "a SHA-256 in base 16")
SERIAL = matching(r"[0-9]{1,18}-[0-9A-Za-z-]{1,64}", "a serial such as 41-8f3a09c2")
LINK = matching(r"[0-9A-Za-z._@+-]+", "the link of a profile")
FINGERPRINT = matching(r"SHA256:[0-9A-Za-z+/]{43}", "a fingerprint such as SHA256:…")
NIX_OPTION = matching(r"[a-z][a-z0-9-]*", "the name of a Nix option")
UNIT_GLOB = Codec(str, values.unit_glob)
SNIPPET = Codec(str, values.snippet)
WINDOW = Codec(str, window)
SECRET = Codec(str, SecretPlace.parse)
WORDS = json_of(lambda data: tuple(map(str, data)), list)


def _as_in_toml(table: Check | Hook) -> dict[str, Any]:
    """Return the keys of a table as people write them in fleet.toml, without those that have their defaults."""
    keys = table.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"name": table.name}
    return {
        key: f"{number(value)}s" if key in ("within", "interval", "timeout") else value for key, value in keys.items()
    }


CHECK = json_of(Check.model_validate, _as_in_toml)
HOOK = json_of(Hook.model_validate, _as_in_toml)
