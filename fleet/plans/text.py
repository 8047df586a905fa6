"""The text format of plans and parts: a host can check it with `sha256sum` and read it with the shell's `read`.

The first line is a title, and each further line is a key, a space and a value. It is printable ASCII with LF line ends,
in a fixed order, so that a value has exactly one text and one digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NONE = "-"
"""The value of a key that has none."""

_LINE = re.compile(r"([a-z_]+) ([!-~](?:[ -~]*[!-~])?)")


class TextError(ValueError):
    """The text is not a plan or part as fleet writes it. The message names the line."""


def digest(text: str) -> str:
    """Return the SHA-256 of the text, as `sha256sum` prints it."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def written(title: str, lines: Iterable[tuple[str, str]]) -> str:
    """Return the text of these keys and values under a title."""
    return "".join(f"{line}\n" for line in (title, *(f"{key} {value or NONE}" for key, value in lines)))


def words(text: str) -> str:
    """Return any text on one line of printable ASCII, with the escapes of JSON.

    `unescaped` reverses it, but for white space.
    """
    return document(" ".join(text.split()))[1:-1] or NONE


def unescaped(value: str) -> str:
    """Return the text that `words` has written. Raise `TextError` for anything else."""
    if value == NONE:
        return ""
    try:
        text = json.loads(f'"{value}"')
    except ValueError:
        raise TextError(f"is no text as JSON has it: {value[:80]}") from None
    return str(text)


def document(value: object) -> str:
    """Return the value as JSON on one line of printable ASCII. Equal values have equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def number(value: float) -> str:
    """Return a number as text, such as `5` or `0.25`. Equal numbers have equal texts."""
    return str(int(value)) if value == int(value) else f"{Decimal(repr(value)):f}"  # not 1e-06


class Lines:
    """The lines of a text, to be taken in the order in which they were written."""

    def __init__(self, title: str, text: str) -> None:
        """Split the text. Raise `TextError` if it has another title, or a line that has no key and value."""
        first, *rest = text.split("\n")
        if first != title:
            known = first.rpartition(" v")[0] == title.rpartition(" v")[0]
            wanted = f"'{title}' is what this version of fleet reads" if known else f"expected '{title}'"
            raise TextError(f"line 1: found {first[:40]!r}, {wanted}")
        if rest[-1:] != [""]:
            raise TextError("was cut: its last line has no end")
        self._rows = [_row(number, line) for number, line in enumerate(rest[:-1], 2)]
        self._next = 0

    def take(self, key: str) -> str:
        """Return the value of the next line. Raise `TextError` if that line has another key."""
        if self._next == len(self._rows):
            raise TextError(f"has no line '{key}'")
        number, found, value = self._rows[self._next]
        if found != key:
            raise TextError(f"line {number}: found '{found}', expected '{key}'")
        self._next += 1
        return value

    def has_next(self, key: str) -> bool:
        """Whether the next line has this key."""
        return self._next < len(self._rows) and self._rows[self._next][1] == key

    def optional(self, key: str) -> str | None:
        """Return the value of the next line, or None if it was written without one."""
        value = self.take(key)
        return None if value == NONE else value

    def read(self, key: str, how: Callable[[str], Any]) -> Any:
        """Return the value of the next line as `how` reads it.

        Raise `TextError`, which names the line, if it cannot.
        """
        number = self._rows[self._next][0] if self._next < len(self._rows) else 0
        value = self.take(key)
        try:
            return how(value)
        except (ValueError, LookupError, TypeError) as error:
            raise TextError(f"line {number}: {key}: {' '.join(str(error).split())[:200]}") from None

    def each(self, key: str, how: Callable[[str], Any]) -> tuple[Any, ...]:
        """Return the values of the next lines with this key. There may be none."""
        found = []
        while self.has_next(key):
            found.append(self.read(key, how))
        return tuple(found)

    def end(self) -> None:
        """Raise `TextError` if there is a further line."""
        if self._next < len(self._rows):
            number, key, _ = self._rows[self._next]
            raise TextError(f"line {number}: unknown line '{key}'")


def _row(number: int, line: str) -> tuple[int, str, str]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise TextError(f"line {number}: is no key and value in printable ASCII: {line[:40]!r}")
    return number, match[1], match[2]
