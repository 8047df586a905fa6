"""Find out whether a command parses, without running it."""

from __future__ import annotations

import contextlib
import io
import itertools
import shlex

import click

from fleet import cli


def complaint(command: str) -> str | None:
    """Return what the command line would say against `fleet …`; None if it parses. Paths need not exist."""
    try:
        words = shlex.split(command, comments=True)
    except ValueError as error:
        return str(error)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            _parse(cli.fleet, words[1:])
    except click.exceptions.Exit:
        return None
    except click.BadParameter as error:
        return None if error.param and isinstance(error.param.type, click.Path) else error.format_message()
    except click.UsageError as error:
        return error.format_message()
    return None


def _parse(group: click.Group, words: list[str]) -> None:
    flags = list(itertools.takewhile(lambda word: word.startswith("-"), words))
    if flags:
        group.make_context("fleet", list(flags))
    if len(flags) == len(words):
        return
    name, command, rest = group.resolve_command(click.Context(group), words[len(flags) :])
    if isinstance(command, click.Group):
        _parse(command, rest)
    elif command:
        command.make_context(name, rest)
