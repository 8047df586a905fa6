"""A text stream that cannot hurt a run."""

from __future__ import annotations

import os
from typing import TextIO

_ASCII = str.maketrans({"→": "->", "…": "...", "∅": "none", "±": "+-"})


class Sturdy:
    """Passes text on, flushed, until the stream fails; says nothing more from then on.

    A reader that left (`fleet … | head`), a terminal that went away or a full disk must not end a run half
    way through a switch.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self.error: OSError | None = None
        """Why the stream is silent, if it is."""

    def write(self, text: str) -> int:
        """The text is in the stream, or the stream is silent. What its encoding lacks is spelled out."""
        if self.error is None:
            try:
                self._stream.write(self._encodable(text))
                self._stream.flush()
            except OSError as error:
                self.error = error
                self._discard()
        return len(text)

    def flush(self) -> None:
        """Nothing is ever held back here."""

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

    def _discard(self) -> None:
        """What the stream still buffers goes nowhere, else Python fails at exit when it flushes that."""
        try:
            number = self._stream.fileno()
        except (OSError, ValueError):
            return
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)
