"""`fleet completion`: let shells complete commands, flags, hosts, tags, runs and generations.

`shells` is what a shell calls, `values` finds what it may complete. The scripts are our own, since those of click know
nothing of `@`, `:` and `,` in words.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

SHELLS = ("bash", "zsh", "fish")
shell_argument = click.argument("shell", type=click.Choice(SHELLS), required=False)


@click.group()
def completion() -> None:
    """Let the shell complete commands, flags, hosts, tags, runs and generations. No host is contacted for that.

    \b
    fleet completion install
    fleet completion show zsh
    """


@completion.command()
@shell_argument
def show(shell: str | None) -> None:
    """Print the script for a shell. Default: the shell that you use.

    \b
    fleet completion show bash
    """
    click.echo(_script(_chosen(shell)), nl=False)


@completion.command()
@shell_argument
def install(shell: str | None) -> None:
    """Write the script where the shell finds it, and say what is left to do. Default: the shell that you use.

    Nothing else is changed. To do it again after an update is good.

    \b
    fleet completion install
    fleet completion install fish
    """
    from fleet.errors import FleetError
    from fleet.files import replace_file

    shell = _chosen(shell)
    path = place(shell, os.environ)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, _script(shell).encode(), mode=0o644)
    except OSError as error:
        raise FleetError(f"{path}: cannot be written: {error.strerror}") from error
    click.echo(f"wrote {path}", err=True)
    for line in _left_to_do(shell, path):
        click.echo(line, err=True)


def _chosen(shell: str | None) -> str:
    """Return the shell, or the one that the person uses. Raise `ConfigError` if that is another."""
    from fleet.errors import ConfigError

    if shell is not None:
        return shell
    used = os.environ.get("SHELL", "").rpartition("/")[2]
    if used not in SHELLS:
        raise ConfigError(f"your shell is {used or 'not known'}", hint=f"name one of {', '.join(SHELLS)}")
    return used


def _script(shell: str) -> str:
    from fleet.cli import fleet
    from fleet.cli.completion import shells

    return shells.of(shell)(fleet, {}, "fleet", shells.VARIABLE).source()


def place(shell: str, environment: Mapping[str, str]) -> Path:
    """Return where the shell looks for the script of a user by itself; zsh looks nowhere in a home."""

    def base(variable: str, usual: str) -> Path:
        given = environment.get(variable, "")
        return Path(given) if Path(given).is_absolute() else Path(usual).expanduser()

    match shell:
        case "bash":  # bash-completion 2.x loads it from there when it is first needed
            return base("XDG_DATA_HOME", "~/.local/share") / "bash-completion" / "completions" / "fleet"
        case "fish":
            return base("XDG_CONFIG_HOME", "~/.config") / "fish" / "completions" / "fleet.fish"
    return base("XDG_DATA_HOME", "~/.local/share") / "zsh" / "site-functions" / "_fleet"


def _left_to_do(shell: str, path: Path) -> list[str]:
    match shell:
        case "bash":
            return [
                "new shells have it where bash-completion is installed; else add this to ~/.bashrc:",
                f"  source {path}",
            ]
        case "zsh":
            return [
                "add this to ~/.zshrc before compinit, unless it is there:",
                f"  fpath=({path.parent} $fpath)",
                "  autoload -Uz compinit && compinit",
            ]
    return ["new shells have it"]
