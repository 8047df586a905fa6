"""Make text that others wrote fit for terminals and files."""

from __future__ import annotations

import re

_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def plain_text(text: str) -> str:
    """Return the text without escape sequences and control characters.

    All text for terminals and files comes through here.
    """
    return _CONTROL.sub("", text.replace("\t", "    "))


def valid_unicode(text: str) -> str:
    """Return the text with `?` in place of each lone surrogate.

    Python makes these from bytes that are not UTF-8, in file names for example. JSON and databases cannot hold them.
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
