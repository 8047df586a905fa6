"""Show lines on a terminal that are replaced again and again, for as long as somebody watches."""

from __future__ import annotations

import contextlib
import os
from typing import IO, TYPE_CHECKING, TextIO, cast

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.text import Text

from fleet.output.silence import Silence
from fleet.output.stream import SafeStream

if TYPE_CHECKING:
    from collections.abc import Sequence


class Screen:
    """The whole terminal, while inside. Afterwards it is as it was, with the last lines below."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = SafeStream(stream)
        self._console = Console(file=cast("IO[str]", self._stream), highlight=False)
        self._live = Live(console=self._console, screen=True, auto_refresh=False, redirect_stdout=False)
        self._silence = Silence(stream)
        self._lines: Sequence[str] = ()

    def __enter__(self) -> Screen:
        self._silence.begin()
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        self._silence.end()
        self._stream.write("".join(f"{line}\n" for line in self._lines))

    @property
    def width(self) -> int:
        """How many columns it has now."""
        self._measure()
        return self._console.size.width

    def _measure(self) -> None:
        """Take over the size that the terminal has now. Rich asks stdin first, which may be another one."""
        with contextlib.suppress(OSError, ValueError):
            self._console.size = ConsoleDimensions(*os.get_terminal_size(self._stream.fileno()))

    def show(self, lines: Sequence[str], *, foot: str) -> None:
        """Show as many of the lines as there is room for, how many more there are, and one line below."""
        self._lines = lines
        self._measure()
        room = max(self._console.size.height - 2, 1)
        shown = [Text.from_ansi(line, no_wrap=True, overflow="ellipsis") for line in lines[:room]]
        hidden = f"{len(lines) - room} more lines; " if len(lines) > room else ""
        self._live.update(Group(*shown, Text(f"{hidden}{foot}", style="dim", no_wrap=True)), refresh=True)
