"""The regular expressions of people, for what hosts say. They are matched in linear time, whatever both of them are.

Python's own `re` may take for ever, and nothing can interrupt it. RE2 has no back references and no lookaround instead.
"""

from __future__ import annotations

import functools
from typing import Any

MOST_MEMORY = 8 << 20
"""Bytes that one expression may take."""


class PatternError(ValueError):
    """The text is no regular expression of RE2."""


@functools.lru_cache(maxsize=256)
def compiled(pattern: str) -> Any:
    """Return the expression, compiled. Raise `PatternError`."""
    import re2  # imported here: few fleets have such a check

    options = re2.Options()
    options.log_errors = False
    options.max_mem = MOST_MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        raise PatternError(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from None


def matches(pattern: str, text: str) -> bool:
    """Return whether the expression is found in the text. Its `$` matches before a final line break too."""
    found = compiled(pattern)
    return any(found.search(each) is not None for each in dict.fromkeys((text, text.removesuffix("\n"))))
