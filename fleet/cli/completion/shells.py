"""What shells call to complete a line: click's own machinery, with lines as our words need it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from click.shell_completion import (
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

if TYPE_CHECKING:
    from typing import Any

VARIABLE = "_FLEET_COMPLETE"
"""The variable in which a shell says what it wants: that of click for a program called fleet."""


class _OurScript(ShellComplete):
    """Has its script in a file beside this one."""

    def source(self) -> str:
        """Return the script."""
        return (Path(__file__).parent / f"fleet.{self.name}").read_text(encoding="utf-8")


class _ByLine(_OurScript):
    """Gets the line up to the cursor, and the part of it that the shell would replace."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the whole words after `fleet`, and the one that is not whole yet; it may be empty."""
        line = os.environ["FLEET_LINE"]
        words = split_arg_string(line)
        is_between = not line or (line[-1].isspace() and not os.environ["FLEET_PART"])
        return (words[1:], "") if is_between or len(words) < 2 else (words[1:-1], words[-1])


class Bash(_ByLine):
    """Bash replaces what comes after the last @, : or =, so the possibilities lose what stands before that."""

    name = "bash"

    def complete(self) -> str:
        """Return a line for each possibility."""
        args, incomplete = self.get_completion_args()
        kept = incomplete.removesuffix(os.environ["FLEET_PART"])
        found = self.get_completions(args, incomplete)
        return "\n".join(f"{item.type},{str(item.value).removeprefix(kept)}" for item in found)


class Fish(_ByLine, FishComplete):
    """Fish shows what each possibility is."""

    name = "fish"

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Return the line for a possibility."""
        return FishComplete.format_completion(self, item)


class Zsh(_OurScript, ZshComplete):
    """Zsh gets what click has for it, by a script that completes the second time too: click 8.5's does not then."""

    name = "zsh"


_CLASSES: dict[str, type[ShellComplete]] = {"bash": Bash, "fish": Fish, "zsh": Zsh}


def of(shell: str) -> type[ShellComplete]:
    """Return the class of a shell."""
    return _CLASSES[shell]


def register() -> None:
    """Let click use these classes."""
    for shell, kind in _CLASSES.items():
        add_completion_class(kind, shell)
