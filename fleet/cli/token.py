"""`fleet token`: by what principals are known to `fleet serve`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from pathlib import Path


@click.group()
def token() -> None:
    """Make and revoke tokens, by which fleet serve knows principals.

    \b
    fleet token new ann
    fleet token new agent-3 --expires 12h
    fleet token revoke agent-3
    """


@token.command()
@click.argument("name")
@options.file
@click.option("--expires", default="30d", show_default=True, metavar="DURATION", help="How long it is good: 12h, 30d.")
def new(name: str, file: Path | None, expires: str) -> int:
    """Make a token for a principal, and print it: it is shown once.

    Its digest goes into principals.toml, which others may read. After the time it is good for nothing.

    \b
    fleet token new ann --expires 90d
    """
    from fleet.errors import ConfigError
    from fleet.policy import edit, tokens
    from fleet.text import local_time

    folder = session.open_inventory(file).path.parent
    seconds = _days(expires)
    if not 60 <= seconds <= tokens.LONGEST:
        raise ConfigError(f"--expires {expires}: is not between a minute and 366 days")
    until = int(time.time() + seconds)
    made = tokens.new_token(until)
    path = edit.add_token(folder, name, tokens.digest_of(made))
    click.echo(f"good until {local_time(until)}; its digest is in {path}; it is shown only now:", err=True)
    click.echo(made)
    return 0


@token.command()
@click.argument("name")
@click.argument("digest", default="")
@options.file
def revoke(name: str, digest: str, file: Path | None) -> int:
    """Take tokens of a principal out of principals.toml: all, or those whose digest begins so.

    A server that reads this file lets nobody in by them any more, at once.

    \b
    fleet token revoke agent-3
    fleet token revoke ann 4f2a
    """
    from fleet.policy import edit

    for one in edit.take_tokens(session.open_inventory(file).path.parent, name, digest):
        click.echo(f"revoked {one}", err=True)
    return 0


@token.command(name="list")
@options.file
def list_tokens(file: Path | None) -> int:
    """List the digests of all tokens, with whose they are.

    \b
    fleet token list
    """
    from fleet.policy import principals

    known = principals.load(session.open_inventory(file).path.parent)
    for name, one in (known.tables if known is not None else {}).items():
        for digest in one.tokens:
            click.echo(f"{name}  {digest}")
    return 0


def _days(text: str) -> float:
    """Return the seconds of a duration that may be in days. Raise `ConfigError` if it is none."""
    number = text.removesuffix("d")
    if number != text and number.isascii() and number.isdigit() and len(number) < 6:
        return int(number) * 86_400.0
    return options.seconds("--expires", text)
