"""Flags that more than one command has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., Any]")

file = click.option(
    "--file",
    "-f",
    type=click.Path(path_type=Path),
    envvar="FLEET_FILE",
    show_envvar=True,
    help="The inventory. Default: fleet.toml here or in the nearest folder above.",
)
selectors = click.argument("selectors", metavar="[SELECTOR]...", nargs=-1)
everything = click.option("--all", "everything", is_flag=True, help="All hosts of the file.")
as_json = click.option("--json", "as_json", is_flag=True, help="JSON on stdout, for scripts.")
yes = click.option("--yes", "-y", is_flag=True, help="Do not ask before several hosts are changed.")
keep_going = click.option(
    "--keep-going", is_flag=True, help="A host that does not evaluate or build is left out; the others go on."
)
no_eval_cache = click.option(
    "--no-eval-cache", is_flag=True, help="Evaluate also where the source has not changed since the last time."
)
all_or_nothing = click.option(
    "--all-or-nothing", is_flag=True, help="Stop before anything is pushed if one host cannot take part."
)
retry_quarantined = click.option(
    "--retry-quarantined", is_flag=True, help="Deploy a closure again that was found bad on a host."
)
closure = click.option(
    "--closure", metavar="PATH", help="Deploy this closure, built elsewhere, without evaluating anything."
)

copy_with = click.option(
    "--copy-with",
    type=click.Choice(["serve", "nix"]),
    default="serve",
    show_default=True,
    help="serve: fleet's own engine, each path read once for all hosts. nix: nix copy.",
)


def reboots(command: Command) -> Command:
    """The flags of commands that may reboot hosts. See `asked_reboot`."""
    command = click.option("--force", is_flag=True, help="Reboot though people, jobs or locks would be interrupted.")(
        command
    )
    command = click.option(
        "--accept-boot-risk", is_flag=True, help="Reboot also where a system that does not boot would stay."
    )(command)
    return click.option(
        "--reboot",
        type=click.Choice(["never", "if-needed", "always"]),
        default="never",
        show_default=True,
        help="Bring hosts to the new system by a reboot that comes back by itself.",
    )(command)


def asked_reboot(asked: dict[str, Any]) -> dict[str, Any]:
    """Takes the flags of `reboots` out of all that was asked, as a request wants them."""
    from fleet.model import Reboot

    return {
        "reboot": Reboot(asked.pop("reboot")),
        "accept_boot_risk": asked.pop("accept_boot_risk"),
        "force": asked.pop("force"),
    }


def changes(command: Command) -> Command:
    """The flags of commands that change hosts."""
    for option in (everything, selectors, file, as_json, yes, all_or_nothing):
        command = option(command)
    return command


def reads(command: Command) -> Command:
    """The flags of commands that only look: without a selector they mean all hosts."""
    for option in (selectors, file, as_json):
        command = option(command)
    return command
