"""Make text that others wrote fit for terminals and files, and read what they wrote as numbers and JSON."""

from __future__ import annotations

import json
import re
import signal
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_HIDDEN = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"
    r"\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
)
"""Control characters but tab and line feed; and the invisible characters of Unicode that change the order of the text
around them, break lines, or hide."""
_HAS_CONTROL = re.compile(f"[{_HIDDEN}]")
_CONTROL = re.compile(rf"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?|[{_HIDDEN}]")
"""The same, and escape sequences as a whole."""
_STORE_PATH = re.compile(r"/nix/store/[0-9a-z]{32}-[0-9A-Za-z+._?=-]{1,211}")
_YEAR_9999 = 253_402_300_799
"""The last second that every system can write as a date."""


def plain_text(text: str) -> str:
    """Return the text without escape sequences and control characters, and with spaces for tabs.

    All text for terminals and files comes through here.
    """
    return without_control(text.replace("\t", "    "))


def shortened(text: str, most: int) -> str:
    """Return the plain text, or its first `most` characters and how much is left out."""
    plain = plain_text(text)
    return plain if len(plain) <= most else f"{plain[:most]}… ({len(plain) - most} more characters)"


def listed(names: Sequence[str], *, most: int = 12) -> str:
    """Return the names as `a, b, c`, and beyond `most` of them as `a, b and 10 more`."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def without_control(text: str) -> str:
    """Return the text without escape sequences and control characters but tabs and line feeds.

    What a host says comes through here before anybody parses or sees it.
    """
    return _CONTROL.sub("", text) if _HAS_CONTROL.search(text) else text


def valid_unicode(text: str) -> str:
    """Return the text with `?` in place of each lone surrogate.

    Python makes these from bytes that are not UTF-8, in file names for example. JSON and databases cannot hold them.
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def parsed_json(text: str | bytes) -> Any:
    """Return the value of a JSON document that somebody else wrote.

    Raise `ValueError` for anything that is none, however it fails: documents may be nested too deeply, too.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def store_path(text: str | None) -> str | None:
    """Return the text if it is the path of something in a Nix store; None for any other text."""
    return text if text and _STORE_PATH.fullmatch(text) else None


def whole_number(text: str) -> int:
    """Return the number that the text is, of up to 18 digits; 0 for any other text."""
    return int(text) if re.fullmatch(r"\s*-?[0-9]{1,18}\s*", text) else 0


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the numbers in a version, to compare it with another: (570, 86, 10) of 570.86.10."""
    return tuple(map(int, re.findall(r"[0-9]{1,9}", version)))


def local_time(seconds: float, form: str = "%Y-%m-%d %H:%M") -> str:
    """Return the moment, in seconds since 1970, in this machine's time zone; `?` for what is no date.

    Clocks of hosts may say anything.
    """
    try:
        return time.strftime(form, time.localtime(seconds)) if 0 <= seconds <= _YEAR_9999 else "?"
    except (OverflowError, ValueError, OSError):
        return "?"


UNNAMED = -99
"""What asyncssh gives as the status for a signal without a name in RFC 4254. OpenSSH names those SIG@openssh.com."""


def how_it_ended(status: int) -> str:
    """Return how a program ended that failed: `failed with exit status 3`, or what its signal probably means.

    A shell tells of a program that a signal has ended by a status of 128 and its number, Python by a negative one.
    """
    if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return "was killed (SIGKILL); out of memory?"
    if status in (-signal.SIGBUS, 128 + signal.SIGBUS):  # Nix maps files of its database
        return "was killed (SIGBUS); no space left on the disk?"
    if status == UNNAMED:
        return "was killed by a signal that SSH has no name for, as SIGBUS: no space left on the disk?"
    if status < 0:
        known = {int(each): each.name for each in signal.Signals}
        return f"died of {known.get(-status, f'signal {-status}')}"
    return f"failed with exit status {status}"
