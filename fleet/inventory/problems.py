"""Collect what is wrong with a fleet.toml, each problem with its table and key."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from fleet.errors import ConfigError
from fleet.events import plain_text
from fleet.inventory.check import SHAPE, Check
from fleet.inventory.hooks import Hook
from fleet.inventory.rollouts import Wave
from fleet.inventory.schema import Host
from fleet.inventory.secrets import Secret
from fleet.inventory.words import nearest, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from fleet.inventory.tables import Table

_TYPES = {
    "bool_type": "true or false",
    "tuple_type": "a list",
    "string_type": "a string",
    "model_type": "a table",
    "model_attributes_type": "a table",
}

_ENTRIES: dict[str, type[Table]] = {"checks": Check, "hooks": Hook, "waves": Wave}
"""The keys that are lists of tables, with what such a table is."""


class Problems:
    """Problems in the order in which they were found, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, None] = {}
        self._written: dict[str, str] = {}

    def name(self, table: str, written: str) -> None:
        """Let the problems of this table, `hosts."web.alice"`, be told as those of the table that people wrote."""
        self._written[table] = written

    def add(self, table: str, key: str, problem: str) -> None:
        """Note a problem."""
        for made, written in self._written.items():
            table = table.replace(f"[{made}]", f"[{written}]").replace(f"[{made}.", f"[{written}.")
        place = f"{table} {key}".strip()
        text = f"{self._path}: {place}: {problem}" if place else f"{self._path}: {problem}"
        self._lines[plain_text(text.replace("\n", " "))] = None

    def raise_if_any(self) -> None:
        """Raise a `ConfigError` with all problems, if there are any."""
        if self._lines:
            raise ConfigError("\n".join(self._lines))

    def __len__(self) -> int:
        return len(self._lines)

    def add_invalid(self, error: ValidationError, table: str, keys: Sequence[str], raw: Mapping[str, Any]) -> None:
        """Note the problems that pydantic found in a table, in terms of the file."""
        for detail in error.errors(include_url=False):
            if detail["type"] in (SHAPE, "default_factory_not_called"):
                continue
            where, key, known = _place(detail["loc"], table, keys, raw)
            self.add(where, key, _words(detail, known))


def dotted(*parts: str) -> str:
    """Return the parts as a TOML key, quoted where TOML needs it."""
    return ".".join(p if re.fullmatch(r"[A-Za-z0-9_-]+", p) else json.dumps(p, ensure_ascii=False) for p in parts)


def entry_table(table: str, key: str, number: int, raw: Any) -> str:
    """Return the place of a check, a hook or a wave, such as `[[hosts.web.checks]] 2 (name)`."""
    name = raw.get("name") if isinstance(raw, dict) else None
    label = f" ({name})" if isinstance(name, str) else ""
    return f"[{table[:-1]}.{key}]] {number}{label}"


def _place(
    loc: tuple[int | str, ...], table: str, keys: Sequence[str], raw: Mapping[str, Any]
) -> tuple[str, str, Sequence[str]]:
    """Return the table and the key of an error, and the keys that are known in that table."""
    if len(loc) > 1 and loc[0] in _ENTRIES and isinstance(loc[1], int):
        list_of = str(loc[0])
        place = entry_table(table, list_of, loc[1] + 1, raw[list_of][loc[1]])
        return place, " ".join(map(str, loc[2:])), _ENTRIES[list_of].toml_keys()
    if len(loc) > 1 and loc[0] == "secrets":
        of_secret = [each for each in Secret.toml_keys() if each != "name"]
        return f"[{table[1:-1]}.secrets.{dotted(str(loc[1]))}]", dotted(*map(str, loc[2:])), of_secret
    key = dotted(*map(str, loc)) if loc else ""
    return table, key, [each for each in keys if each != "name" or "kind" not in keys]


def _words(detail: ErrorDetails, known: Iterable[str]) -> str:
    found = shown(detail["input"])
    kind = detail["type"]
    if kind == "extra_forbidden":
        return unknown_key(str(detail["loc"][-1]), known)
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind == "missing":
        return "is missing"
    if kind in ("enum", "literal_error"):
        choices = detail["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        near = nearest(detail["input"], choices) if isinstance(detail["input"], str) else ""
        return f"found {found}, expected one of {', '.join(choices)}{near}"
    return f"found {found}, expected {_TYPES.get(kind, detail['msg'])}"


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Return `unknown key; did you mean X?`, or the keys to choose from."""
    known = list(known)
    return f"unknown key{nearest(key, known) or '; expected one of ' + ', '.join(known)}"


HOST_KEYS = tuple(key for key in Host.toml_keys() if key != "name")
