"""Draw tables, for people and for pipes."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from fleet.output.format import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

LONGEST, SHORTER, OF_LAST = 24, 14, 16
"""Columns that a word has at most where room is short, and where it is shorter still. The last column has sentences."""
WHOLE = ("host", "run")
"""Columns of what people copy. Their words are never broken, nor are those of the first column, which are names."""
GAP = 3
"""Columns between two columns."""


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
    cells wrap between words so that a line has `width` columns, by default the terminal's own. Where that is too narrow
    for the longest words, each row is a paragraph with a line for each cell. `styles` are those of rich for the rows.
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

    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=width)
    widths = _widths(headers, rows, console.width, LONGEST) or _widths(headers, rows, console.width, SHORTER)
    if widths is None:
        _write_paragraphs(console, headers, rows, styles)
    else:
        drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
        for header, columns in zip(headers, widths, strict=True):
            drawn.add_column(header, width=columns)
        for row, style in zip_longest(rows, styles, fillvalue=""):
            drawn.add_row(*(Text(cell, overflow="fold", style=_STYLES.get(cell, "")) for cell in row), style=style)
        console.print(drawn)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip("\n").splitlines())


def _widths(headers: Sequence[str], rows: list[list[str]], width: int, longest: int) -> list[int] | None:
    """Return the columns that each column takes of so many; None if the words do not fit.

    Words of more than `longest` columns are broken.
    """
    from rich.cells import cell_len

    columns = list(zip(headers, *rows, strict=True))
    whole = [max(map(cell_len, column)) for column in columns]
    most = [*(longest for _ in headers[:-1]), min(longest, OF_LAST)]
    most = [width if number == 0 or header in WHOLE else most[number] for number, header in enumerate(headers)]
    widths = [
        max(cell_len(header), *(min(cell_len(word), limit) for cell in cells for word in cell.split()), 1)
        for limit, (header, *cells) in zip(most, columns, strict=True)
    ]
    spare = width - sum(widths) - GAP * (len(widths) - 1)
    if spare < 0:
        return None
    wanting = sorted(range(len(widths)), key=lambda column: whole[column] - widths[column])
    for left, column in zip(range(len(wanting), 0, -1), wanting, strict=True):
        more = min(whole[column] - widths[column], spare // left)
        widths[column] += more
        spare -= more
    return widths


def _write_paragraphs(console: Console, headers: Sequence[str], rows: list[list[str]], styles: Sequence[str]) -> None:
    """Write the rows one below the other, as the terminal wraps them."""
    from rich.text import Text

    longest = max(map(len, headers))
    for row, style in zip_longest(rows, styles, fillvalue=""):
        console.print(Text(row[0], style=f"bold {style}"), soft_wrap=True)
        for header, cell in zip(headers[1:], row[1:], strict=True):
            if cell:
                line = Text.assemble(f"  {header:{longest}}  ", (cell, _STYLES.get(cell, style)))
                console.print(line, soft_wrap=True)


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
