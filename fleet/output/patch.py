"""Show unified diffs on a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.output.format import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence


def patch_lines(patch: Sequence[str], *, is_terminal: bool = False) -> list[str]:
    """Return the patch without control characters. On a terminal, added and removed lines are coloured."""
    clean = list(map(one_line, patch))
    return _coloured(clean) if is_terminal else clean


def _coloured(lines: list[str]) -> list[str]:
    import io

    from rich.console import Console
    from rich.text import Text

    console = Console(file=io.StringIO(), force_terminal=True, soft_wrap=True)
    coloured = []
    for line in lines:
        with console.capture() as captured:
            console.print(Text(line, style=_STYLES.get(line[:1], "")), end="")
        coloured.append(captured.get())
    return coloured


_STYLES = {"+": "green", "-": "red", "@": "cyan"}
