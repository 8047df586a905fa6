"""Load the shell scripts and Nix expressions that fleet sends along with commands.

They are `scripts/NAME.sh` and `scripts/NAME.nix` in the package that uses them.

In this folder are the loader, and the scripts of modules that are in no package of their own.
"""

from __future__ import annotations

import functools
from importlib import resources

_GOES_ON = ("do", "then", "else", "in", "{", "(", "|", "||", "&&", ";;", "&")
"""What ends a line after which no `;` may stand."""


@functools.cache
def script(package: str, name: str) -> str:
    """Return the text of a script, for `sh -c`. Raise `FileNotFoundError` if the package does not have it."""
    return resources.files(package).joinpath("scripts", f"{name}.sh").read_text(encoding="utf-8")


@functools.cache
def expression(package: str, name: str) -> str:
    """Return the text of a Nix expression of a package: `scripts/NAME.nix`. Raise `FileNotFoundError` without one."""
    return resources.files(package).joinpath("scripts", f"{name}.nix").read_text(encoding="utf-8")


@functools.cache
def one_line(package: str, name: str) -> str:
    """Return the script on one line: a session that waits for its command takes no more than that (machine/session)."""
    return joined(script(package, name))


def joined(text: str) -> str:
    """Return a script on one line, without its comments.

    Only for scripts in which each comment has a line of its own, each pattern of `case` is on the line of its commands,
    and no quoted text or here-document continues over the end of a line.
    """
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    commands = [line for line in lines if line and not line.startswith("#")]
    ended = [line if line.split()[-1] in _GOES_ON else f"{line};" for line in commands]
    return " ".join(ended).removesuffix(";")
