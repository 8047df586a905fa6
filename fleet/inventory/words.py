"""Describe what was found in fleet.toml, for error messages."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def shown(value: Any) -> str:
    """Return the value as a short piece of TOML."""
    match value:
        case str():
            text = json.dumps(value, ensure_ascii=False)
            return text if len(text) <= 80 else text[:76] + '…"'
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)[:40]
        case list() | tuple():
            return "a list" if value else "[]"
        case dict():
            return "a table"
    return str(value)


def nearest(wrong: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?`, or nothing if no known word is similar."""
    words = {word.lower(): word for word in known}
    close = difflib.get_close_matches(wrong.lower(), words, n=1, cutoff=0.55)
    return f"; did you mean {words[close[0]]}?" if close else ""


def expected(value: Any, what: str) -> ValueError:
    """Return the error that every reader raises: what was found, and what was expected."""
    return ValueError(f"found {shown(value)}, expected {what}")
