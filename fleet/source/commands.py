"""Find the `fleet` commands that the documentation of a flake shows. Only the command line knows whether they parse."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from fleet.files import read_file
from fleet.model import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import PurePath

    from fleet.source.tree import Tree

LARGEST = 1 << 20
"""The most bytes of a file that is searched."""
_SHELLS = ("sh", "bash", "shell", "zsh", "fish")
"""Labels of blocks in which every line is a command. In other blocks a command follows a prompt."""
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})\s*([\w-]*)")
_COMMENT = re.compile(r"(?:^|\s)#\s.*$")
_LINK = re.compile(r"&&|\|\||[|;]|\s&(?:\s|$)")
_TICKS = re.compile(r"`+")


def is_documentation(path: PurePath) -> bool:
    """Whether people or agents take commands from this file. A changelog may have commands of former versions."""
    if path.suffix.lower() != ".md" or path.stem.upper() == "CHANGELOG":
        return False
    return (
        path.parts[0] == "docs" or path.name == "SKILL.md" or (len(path.parts) == 1 and path.stem.upper() == "README")
    )


def shown(text: str, names: Collection[str]) -> Iterator[tuple[int, str]]:
    """Yield the commands that the Markdown text shows, each with its line number, counted from 1.

    The commands of a chain come one by one. A code span that is only one of the names mentions a command and shows
    none.
    """
    fence = label = begun = ""
    for number, line in enumerate(text.splitlines(), 1):
        if edge := _FENCE.match(line):
            if not fence:
                fence, label, begun = edge[1], edge[2].lower(), ""
            elif edge[1].startswith(fence) and not edge[2]:
                fence = ""
        elif not fence:
            spans = (span.strip() for span in _spans(line))
            yield from ((number, span) for span in spans if _is_command(span) and span.split(" ", 1)[1] not in names)
        elif begun or line.lstrip().startswith("$ ") or label in _SHELLS:
            begun += _COMMENT.sub("", line).strip().removeprefix("$ ")
            if begun.endswith("\\"):  # the command continues in the next line
                begun = begun[:-1]
                continue
            parts = (part.strip() for part in _LINK.split(begun))
            yield from ((number, part) for part in parts if _is_command(part))
            begun = ""


def _spans(line: str) -> Iterator[str]:
    """Yield what is in code spans: between two runs of as many backticks. Each run is looked at once."""
    runs = [match.span() for match in _TICKS.finditer(line)]
    places: dict[int, deque[int]] = {}
    for place, (start, end) in enumerate(runs):
        places.setdefault(end - start, deque()).append(place)
    place = 0
    while place < len(runs):
        start, end = runs[place]
        equal = places[end - start]
        while equal and equal[0] <= place:
            equal.popleft()
        if equal:
            place = equal.popleft()
            yield line[end : runs[place][0]]
        place += 1


def _is_command(text: str) -> bool:
    return text.startswith("fleet ")


def findings(tree: Tree, names: Collection[str], complaint: Callable[[str], str | None]) -> Iterator[Finding]:
    """Yield the commands that would be refused. `complaint` returns the reason, or nothing."""
    for path in filter(is_documentation, tree.files):
        try:
            text = read_file(tree.root / path, most=LARGEST).decode(errors="replace")
        except OSError:  # the file is gone, is no file or too large, or a dangling link
            continue
        for number, command in shown(text, names):
            if reason := complaint(command):
                yield Finding(
                    kind="command",
                    message=f"{path}:{number}: `{command}` would be refused: {reason.rstrip('.')}",
                    hint="correct it; fleet COMMAND --help shows what there is",
                )
