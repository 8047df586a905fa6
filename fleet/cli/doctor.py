"""`fleet doctor`: what keeps this machine from deploying, and what to do about it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.library.doctor import Diagnosis, Patient


@click.command()
@options.file
@options.as_json
def doctor(file: Path | None, *, as_json: bool) -> int:
    """Look at this machine, and say what keeps it from deploying, each thing with a remedy. No host is contacted.

    Nix and what it can build for, git, SSH, agent and keys, the clock, the disk, what is remembered, and the lab. The
    exit code is 1 if something is an error; a note is no reason to wait.

    \b
    fleet doctor
    """
    from fleet.library.doctor import State, examine

    patient = _patient(file)
    with session.display(as_json=as_json) as output:
        output.wait_for("look at this machine")
        found = asyncio.run(examine(patient))
    if as_json:
        rows = [
            {"what": what, "state": state.value, "said": said, "remedy": remedy} for what, state, said, remedy in found
        ]
        click.echo(json.dumps({"findings": rows}))
    else:
        click.echo("\n".join(_lines(found, is_terminal=sys.stdout.isatty())))
    return 1 if any(each.state is State.ERROR for each in found) else 0


def _patient(file: Path | None) -> Patient:
    """Return this machine, with the fleet.toml if there is one that is right."""
    from fleet.errors import ConfigError
    from fleet.files import state_folder
    from fleet.library.doctor import Patient
    from fleet.library.tools import LocalNix
    from fleet.state import open_state

    place, environment = file or session.nearest(), dict(os.environ)
    try:
        inventory = session.open_inventory(place)
    except ConfigError as error:
        return Patient(here=LocalNix({}), environment=environment, home=Path.home(), file=place, problem=error)
    return Patient(
        here=LocalNix(inventory.nix_options),
        environment=environment,
        home=Path.home(),
        file=place,
        inventory=inventory,
        state=open_state(state_folder(inventory.name), inventory.state),
    )


def _lines(found: Sequence[Diagnosis], *, is_terminal: bool) -> list[str]:
    """Return a line for each thing, and the remedy below it."""
    from fleet.output.format import one_line
    from fleet.output.patch import coloured

    styles = {"note": "yellow", "error": "bold red"}
    width = max(len(each.what) for each in found)
    lines = []
    for what, state, said, remedy in found:
        mark = f"{state.value:5}"
        shown = coloured(mark, styles[state.value]) if is_terminal and state.value in styles else mark
        lines.append(f"{shown}  {what:{width}}  {one_line(said)}")
        lines += [f"{'':{width + 9}}{one_line(remedy)}"] if remedy else []
    return lines
