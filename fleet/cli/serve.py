"""`fleet serve`: the fleet in a browser."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import click

from fleet.cli import options, session


@click.command()
@options.file
@click.option(
    "--listen", default="127.0.0.1:8420", show_default=True, metavar="ADDRESS:PORT", help="Where it can be reached."
)
@click.option("--url", default="", metavar="URL", help="What people type, where a proxy stands before it.")
@click.option("--certificate", type=click.Path(path_type=Path), metavar="FILE", help="For HTTPS: certificates, PEM.")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="For HTTPS: the key of the first of them.")
@click.option("--ask/--no-ask", "asks", default=True, help="Ask hosts what they are, or show what is remembered alone.")
@click.option("--every", default="1m", show_default=True, metavar="DURATION", help="Ask each host that often.")
@click.option(
    "--evaluate", "evaluates", is_flag=True, help="Evaluate one command of stdin, for a unit without logins, and end."
)
def serve(
    file: Path | None,
    listen: str,
    url: str,
    certificate: Path | None,
    key: Path | None,
    every: str,
    **flags: bool,
) -> int:
    """Show the fleet in a browser: hosts, runs, plans and the ledger, live. Needs fleet[serve].

    It changes nothing. At a terminal it prints a link that lets in whoever opens it first, once; everybody else brings
    a token: fleet token new. Whoever is let in sees everything but secrets: docs/serve.md.

    \b
    fleet serve
    fleet serve --listen 127.0.0.1:9000 --every 5m
    """
    from fleet import Fleet
    from fleet.errors import ConfigError
    from fleet.library.served import SERVED

    if flags["evaluates"]:
        from fleet.serve.evaluator import answer, streams

        return asyncio.run(answer(*streams()))
    # What it links to may be another file later: that of another revision.
    place = (file if file is not None else session.nearest()).absolute()
    session.open_inventory(place)
    password = session.given_password()
    os.environ[SERVED] = "1"
    try:
        from fleet.mcp.desk import Desk
        from fleet.serve.run import serve as serve_it
        from fleet.serve.settings import settings
        from fleet.serve.source import Source
    except ModuleNotFoundError as error:
        raise ConfigError(f"fleet serve needs {error.name}", hint="pip install 'fleet[serve]'") from None
    chosen = settings(
        listen, url=url, certificate=certificate, key=key, asks=flags["asks"], every=options.seconds("--every", every)
    )
    source = Source(lambda: Fleet.open(place, sudo_password=password), place)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            serve_it(source, chosen, lambda name: Desk(file=place, principal=name, sudo_password=password), _tell)
        )
    return 0


def _tell(url: str, word: str) -> None:
    """Say where it is. A link that lets somebody in is shown to a person at a terminal, and comes into no journal."""
    if sys.stderr.isatty():
        click.echo(
            f"fleet: open this within 10 minutes; it lets in one browser:\n\n  {url}/enter?link={word}\n", err=True
        )
    else:
        click.echo(f"fleet: serves at {url}; bring a token of fleet token new", err=True)
