"""`fleet man`: manual pages, made from the commands themselves.

click-man 0.6 does not do: it sees no command that is loaded late, as all of ours are, runs the lines of examples
together, and leaves lines that begin with a dot to be taken for commands of roff.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

USUAL = "~/.local/share/man"
"""Where man(1) looks if ~/.local/bin is in PATH: see manpath(1)."""
EXIT_CODES = {
    "0": "everything is as it was asked for",
    "1": "some host failed, was rolled back or skipped; of a reading command: a host could not be read, is unhealthy, "
    "or has drift; of fleet exec: the command failed",
    "2": "fleet.toml, a plan, a selector or a flag is wrong, policy.toml says no, or this machine cannot record a run; "
    "nothing was touched",
    "3": "evaluation or build failed; nothing was touched",
    "4": "some host needs a human",
    "5": "every selected host was locked by another run, or its turn did not come within --wait; nothing was touched",
    "130": "interrupted",
}


@click.group()
def man() -> None:
    """Manual pages of all commands.

    \b
    fleet man install
    man fleet-deploy
    fleet man show deploy | man -l -
    """


@man.command()
@click.argument("words", metavar="[COMMAND]...", nargs=-1)
def show(words: tuple[str, ...]) -> None:
    """Print the page of a command, for `man -l -`. Default: that of fleet itself.

    \b
    fleet man show runs show | man -l -
    """
    from fleet.errors import ConfigError

    name = " ".join(("fleet", *words))
    known = dict(pages())
    if name not in known:
        raise ConfigError(f"there is no command {name}", hint="fleet --help lists what there is")
    click.echo(known[name], nl=False)


@man.command()
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), default=USUAL, show_default=True, help="The folder of manuals."
)
def install(folder: Path) -> None:
    """Write the pages of all commands to where man looks for them. To do it again after an update is good.

    \b
    fleet man install
    """
    from fleet.errors import FleetError
    from fleet.files import replace_file

    section = folder.expanduser() / "man1"
    written = dict(pages())
    try:
        section.mkdir(parents=True, exist_ok=True)
        for name, page in written.items():
            replace_file(section / f"{name.replace(' ', '-')}.1", page.encode(), mode=0o644)
    except OSError as error:
        raise FleetError(f"{section}: cannot be written: {error.strerror}") from error
    click.echo(f"wrote {len(written)} pages to {section}; man fleet", err=True)


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name of every command, such as `fleet runs show`, and its page."""
    from fleet.cli import fleet

    yield from _pages(click.Context(fleet, info_name="fleet", **fleet.context_settings))


def _pages(context: click.Context) -> Iterator[tuple[str, str]]:
    below = _below(context)
    yield context.command_path, "".join(f"{line}\n" for line in _page(context, below))
    for each in below:
        yield from _pages(each)


def _below(context: click.Context) -> list[click.Context]:
    """Return the commands of a group, each in its context."""
    group = context.command
    if not isinstance(group, click.Group):
        return []
    found = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    return [
        click.Context(command, info_name=name, parent=context, **command.context_settings)
        for name, command in found
        if command is not None and not command.hidden
    ]


def _page(context: click.Context, below: list[click.Context]) -> Iterator[str]:
    command, path = context.command, context.command_path
    yield f'.TH "{path.replace(" ", "-").upper()}" "1" "" "fleet {__version__}" "Manual of fleet"'
    summary, paragraphs = _help(command)
    yield from (".SH NAME", f"{_text(path.replace(' ', '-'))} \\- {_text(summary)}")
    yield from (".SH SYNOPSIS", f"\\fB{_text(path)}\\fR {_text(' '.join(command.collect_usage_pieces(context)))}")
    yield ".SH DESCRIPTION"
    examples = []
    for paragraph in paragraphs:
        if paragraph.startswith("\b"):
            examples.append(paragraph.removeprefix("\b\n"))
        else:
            yield from (".PP", _text(" ".join(paragraph.split())))
    if examples:
        yield from (".SH EXAMPLES", ".nf", *(_text(line) for text in examples for line in text.splitlines()), ".fi")
    records = [
        record
        for param in command.get_params(context)
        if isinstance(param, click.Option) and (record := param.get_help_record(context))
    ]
    if records:
        yield ".SH OPTIONS"
        for flags, words in records:
            yield from (".TP", f"\\fB{_text(flags)}\\fR", _text(" ".join(words.split())) or "\\&")
    if below:
        yield ".SH COMMANDS"
        for each in below:
            yield from (
                ".TP",
                f"\\fB{_text(each.command_path.replace(' ', '-'))}\\fR(1)",
                _text(_help(each.command)[0]),
            )
    yield ".SH EXIT STATUS"
    for code, words in EXIT_CODES.items():
        yield from (".TP", f"\\fB{code}\\fR", _text(words))
    others = (
        [] if context.parent is None else ["fleet", *([context.parent.command_path] if context.parent.parent else [])]
    )
    yield from (
        ".SH SEE ALSO",
        ", ".join(f"\\fB{_text(name.replace(' ', '-'))}\\fR(1)" for name in others) or "The pages of its commands.",
    )


def _help(command: click.Command) -> tuple[str, list[str]]:
    """Return the first sentence of a help text without its dot, and all paragraphs."""
    import inspect

    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    first = " ".join(paragraphs[0].split())
    return re.split(r"[.:;](?:\s|$)", first)[0], paragraphs


def _text(text: str) -> str:
    """Return the text as roff prints it: nothing in it is a command, and a dash is one that can be copied."""
    escaped = text.replace("\u2026", "...").replace("\\", "\\e").replace("-", "\\-")
    ascii_only = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", escaped)
    return re.sub(r"(?m)^(?=[.'])", r"\\&", ascii_only)
