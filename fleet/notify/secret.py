"""Read tokens, passwords and secret addresses from files. They are in no message, and in no error."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from fleet.files import read_file
from fleet.notify.line import NotSentError

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 4096
"""The most bytes of a secret."""


def secret(path: Path) -> str:
    """Return the one line that the file has. Raise `NotSentError` if it cannot be read, or everybody may read it."""
    try:
        data = read_file(path, most=LARGEST)
        mode = path.stat().st_mode
    except OSError as error:
        raise NotSentError(f"{path}: cannot be read: {error.strerror}") from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise NotSentError(f"{path}: everybody may read it or write to it: chmod o= {os.fspath(path)}")
    try:
        text = data.decode("ascii").strip("\r\n")
    except UnicodeDecodeError:
        raise NotSentError(f"{path}: has characters that are not ASCII") from None
    if not text or not text.isprintable() or text != text.strip():
        raise NotSentError(f"{path}: must have one line, with no spaces around it")
    return text
