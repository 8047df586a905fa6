"""Colour lines for a screen: those of unified diffs, and others."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from fleet.output.format import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console


def patch_lines(patch: Sequence[str], *, is_terminal: bool = False) -> list[str]:
    """Return the patch without control characters. On a terminal, added and removed lines are coloured."""
    clean = list(map(one_line, patch))
    return [coloured(line, _STYLES.get(line[:1], "")) for line in clean] if is_terminal else clean


def coloured(line: str, style: str) -> str:
    """Return the line in a style of rich, as far as the terminal and NO_COLOR allow. An empty style leaves it alone."""
    if not style:
        return line
    from rich.text import Text

    console = _console(os.environ.get("NO_COLOR"), os.environ.get("TERM"))
    with console.capture() as captured:
        console.print(Text(line, style=style), end="")
    return captured.get()


@functools.cache
def _console(*_: str | None) -> Console:
    """Return a console that knows what the terminal can show, by these variables, and prints nothing."""
    import io

    from rich.console import Console

    return Console(file=io.StringIO(), force_terminal=True, soft_wrap=True)


_STYLES = {"+": "green", "-": "red", "@": "cyan"}
