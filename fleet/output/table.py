"""Draw tables, for people and for pipes."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from fleet.output.format import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    is_terminal: bool = False,
    width: int | None = None,
    styles: Sequence[str] = (),
) -> str:
    """Return the rows under their headers, without a final newline.

    Without a terminal, columns are aligned with spaces, each row is one line, and nothing is cut off. On a terminal,
    cells wrap so that a line has `width` columns, by default the terminal's own. Words of the first column, which are
    names, are not broken. `styles` are those of rich for the rows.
    """
    clean = [[one_line(cell) for cell in row] for row in rows]
    return _drawn(headers, clean, width, styles) if is_terminal else _aligned([list(headers), *clean])


def _aligned(rows: list[list[str]]) -> str:
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _drawn(headers: Sequence[str], rows: list[list[str]], width: int | None, styles: Sequence[str]) -> str:
    import io

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    name, *others = headers
    drawn.add_column(name, min_width=max((len(word) for row in rows for word in row[0].split()), default=0))
    for header in others:
        drawn.add_column(header)
    for row, style in zip_longest(rows, styles, fillvalue=""):
        drawn.add_row(*(Text(cell, overflow="fold", style=_STYLES.get(cell, "")) for cell in row), style=style)
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=width)
    console.print(drawn)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip("\n").splitlines())


_STYLES = {
    "kept": "green",
    "staged": "green",
    "unchanged": "dim",
    "deferred": "yellow",
    "skipped": "yellow",
    "rolled back": "red",
    "failed": "red",
    "needs human": "bold red",
}
