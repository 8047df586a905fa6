"""Ask people on the terminal. Whatever was typed before a question stands there is no answer to it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import termios
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from fleet.errors import ConfigError

if TYPE_CHECKING:
    from fleet import Stop

UNTOUCHED = "Nothing was changed."
"""What people read after their no."""


@dataclass(frozen=True, kw_only=True)
class Consent:
    """Whether people are asked before hosts are changed, and what else they have said of how that is done."""

    yes: bool = False
    """Nobody is asked: the answer is yes."""
    ask: bool = False
    """People are asked for one host too."""
    break_glass: str = ""
    """Why the rules of policy.toml are to be broken. Empty if they are not."""
    by_workers: bool = False
    """Workers change the hosts."""

    def is_asked_for(self, count: int) -> bool:
        """Return whether somebody has to agree before so many hosts are changed."""
        return not self.yes and count > (0 if self.ask else 1)

    def require_terminal(self, count: int) -> None:
        """Raise `ConfigError` if somebody would have to agree to so many changed hosts, and nobody can be asked."""
        if self.yes and self.ask:
            raise ConfigError("--yes and --ask: give one of them")
        if self.is_asked_for(count) and not sys.stdin.isatty():
            changed = "1 host" if count == 1 else f"{count} hosts"
            raise ConfigError(
                f"{changed} would be changed, and there is no terminal to ask on", hint="say --yes if that is meant"
            )


async def agreed(question: str, stop: Stop) -> bool:
    """Ask until the answer is yes or no. Only `y` and `yes` agree; an empty line and the end of input do not.

    Raise `StoppedError` at a request to stop.
    """
    while True:
        _show(question)
        line = await stop.unless(_line())
        if not line:
            click.echo(err=True)  # nobody has pressed Enter
        answer = line.strip().lower()
        if answer in ("", "y", "yes", "n", "no"):
            return answer.startswith("y")


def confirmed(question: str) -> bool:
    """Do the same for a command that has no event loop, and that Ctrl-C ends at once."""
    forget_typed()
    try:
        return click.confirm(question, err=True)
    except click.exceptions.Abort as error:
        if not isinstance(error.__context__, EOFError):
            raise
        click.echo(err=True)  # nobody has pressed Enter
        return False


def forget_typed() -> None:
    """Discard what was typed so far and nobody has read. Does nothing where stdin is no terminal."""
    with contextlib.suppress(termios.error, OSError, ValueError):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def _show(question: str) -> None:
    forget_typed()
    click.echo(f"\n{question} [y/N]: ", err=True, nl=False)


async def _line() -> str:
    """Return a line that a person types; empty at the end of input. Not in a thread, which Ctrl-C could not end."""
    loop = asyncio.get_running_loop()
    typed: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        if not typed.done():
            typed.set_result(sys.stdin.readline())

    loop.add_reader(sys.stdin, read)
    try:
        return await typed
    finally:
        loop.remove_reader(sys.stdin)
