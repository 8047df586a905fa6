"""A text stream that cannot stop a run."""

from __future__ import annotations

import os
from typing import TextIO

_ASCII = str.maketrans({"→": "->", "…": "...", "∅": "none", "±": "+-"})


class SafeStream:
    """Passes text on and flushes it, until the stream fails. Writes nothing from then on.

    A reader that left (`fleet … | head`), a terminal that went away or a full disk must not end a run in the middle of
    a switch.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self.error: OSError | None = None
        """Why nothing is written any more; None while the stream works."""

    def write(self, text: str) -> int:
        """Write the text, unless the stream has failed. Characters that its encoding lacks are spelled out."""
        if self.error is None:
            try:
                self._stream.write(self._encodable(text))
                self._stream.flush()
            except OSError as error:
                self.error = error
                discard(self._stream)
        return len(text)

    def flush(self) -> None:
        """Do nothing: `write` flushes."""

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def _encodable(self, text: str) -> str:
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            return text.translate(_ASCII).encode(self.encoding, "replace").decode(self.encoding)
        return text


def discard(stream: TextIO) -> None:
    """Redirect the stream to /dev/null.

    Otherwise Python would fail at exit, when it flushes the stream's buffer.
    """
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)
