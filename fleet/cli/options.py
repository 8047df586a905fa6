"""Flags that several commands have."""

from __future__ import annotations

import os
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


def completes(what: str) -> Callable[[click.Context, click.Parameter, str], list[Any]]:
    """Return what click calls to complete a word: the function `what` of `completion.values`."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[Any]:
        from fleet.cli.completion import values

        found: list[Any] = getattr(values, what)(context, incomplete)
        return found

    return complete


class OutputFile(click.Path):
    """A file that a command will write. What cannot become one is refused before anything is done for it."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path. Raise `BadParameter` if it is a folder or a device, or if its folder takes no files."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = path.parent
        if path.exists() and not path.is_file():  # to replace /dev/stdout would harm everybody
            self.fail(f"{path} is no file that could be replaced: name one", param, ctx)
        if not folder.is_dir():
            self.fail(f"{path} cannot be written: there is no folder {folder}", param, ctx)
        if not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"{path} cannot be written: you may not write to {folder}", param, ctx)
        return path


output_file = OutputFile()
selectors = click.argument("selectors", metavar="[SELECTOR]...", nargs=-1, shell_complete=completes("selectors"))
everything = click.option("--all", "everything", is_flag=True, help="All hosts of the file.")
as_json = click.option("--json", "as_json", is_flag=True, help="JSON on stdout, for scripts.")
yes = click.option("--yes", "-y", is_flag=True, help="Do not ask before several hosts are changed.")
ask = click.option("--ask", is_flag=True, help="Ask before one host is changed, too.")
verbose = click.option(
    "--verbose", "-v", is_flag=True, help="Tell all: each phase of each host, and what Nix and the switches write."
)
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
revision = click.option(
    "--revision",
    metavar="REV",
    default="",
    help="Evaluate this branch, tag or commit of the flake's repository, and not what its work tree has.",
)
closure = click.option(
    "--closure", metavar="PATH", help="Take this closure, built elsewhere, for each host; nothing is evaluated."
)

copy_with = click.option(
    "--copy-with",
    type=click.Choice(["serve", "nix"]),
    default="serve",
    show_default=True,
    help="serve: fleet's own engine, each path read once for all hosts. nix: nix copy.",
)


intent = click.option(
    "--intent",
    metavar="TEXT",
    default="",
    envvar="FLEET_INTENT",
    show_envvar=True,
    help="Why, in your words: hosts keep it with what happened to them.",
)
expires = click.option(
    "--expires",
    metavar="TIME",
    default="24h",
    show_default=True,
    help="How long the plan of -o can be applied.",
)
goal = click.option(
    "--goal",
    type=click.Choice(["switch", "test", "boot", "dry-activate"]),
    default="switch",
    show_default=True,
    help="test: keep it until the next boot only. boot: the same as --reboot always. "
    "dry-activate: push, and tell what a switch would do.",
)
watch = click.option(
    "--watch", metavar="TIME", default="0s", help="Prove for at least this long (10m) before keeping it."
)


undo_on_failure = click.option(
    "--undo-on-failure/--no-undo-on-failure",
    default=None,
    help="If the run fails, hosts that it has changed go back too. Default: fleet.toml's.",
)
wait = click.option(
    "--wait",
    metavar="TIME",
    default="0s",
    help="Let each host on which others are at work wait so long (10m) for its turn.",
)
ignore_windows = click.option("--ignore-windows", is_flag=True, help="Begin also outside of the windows of hosts.")


break_glass = click.option(
    "--break-glass",
    metavar="REASON",
    default="",
    help="Go ahead against the rules of policy.toml, if it lets you: it is written down, with REASON.",
)
key = click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The key to sign with, or its public half if ssh-agent has it. Default: one of yours in ~/.ssh or there.",
)


workers = click.option(
    "--workers", "by_workers", is_flag=True, help="Let workers do it, and follow them: fleet worker is one."
)


def reboots(command: Command) -> Command:
    """Add the flags of commands that may reboot hosts. See `asked_reboot`."""
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
    """Remove the flags of `reboots` from `asked`, and return them as keyword arguments for `Options`."""
    from fleet.model import Reboot

    return {
        "reboot": Reboot(asked.pop("reboot")),
        "accept_boot_risk": asked.pop("accept_boot_risk"),
        "force": asked.pop("force"),
    }


def deployment(command: Command) -> Command:
    """Add the flags of a deployment, planned or done. See `asked_deployment`."""
    for option in (
        *(intent, copy_with, retry_quarantined, keep_going, no_eval_cache, closure, revision, reboots),
        *(ignore_windows, undo_on_failure, wait, watch, goal),
    ):
        command = option(command)
    return command


def asked_deployment(asked: dict[str, Any]) -> dict[str, Any]:
    """Remove the flags of `deployment` from `asked`, and return them as keyword arguments for `Options`."""
    from fleet.model import Goal, Reboot

    goal, reboot = Goal(asked.pop("goal")), asked_reboot(asked)
    if goal is Goal.BOOT:
        goal, reboot["reboot"] = Goal.SWITCH, Reboot.ALWAYS
    return {
        **reboot,
        "goal": goal,
        "watch": seconds("--watch", asked.pop("watch")),
        "wait": seconds("--wait", asked.pop("wait")),
        "eval_cache": not asked.pop("no_eval_cache"),
        **{
            key: asked.pop(key)
            for key in (
                *("closure", "revision", "keep_going", "retry_quarantined", "copy_with", "intent", "all_or_nothing"),
                *("undo_on_failure", "ignore_windows"),
            )
        },
    }


def seconds(flag: str, text: str) -> float:
    """Return the duration that a flag gives, in seconds. Raise `ConfigError` if it is not one."""
    from fleet.errors import ConfigError
    from fleet.inventory import amounts

    try:
        return amounts.seconds(text)
    except ValueError as error:
        raise ConfigError(f"{flag}: {error}") from None


def changes(command: Command) -> Command:
    """Add the flags of commands that change hosts."""
    for option in (everything, selectors, file, verbose, as_json, break_glass, ask, yes, all_or_nothing):
        command = option(command)
    return command


def pushes(command: Command) -> Command:
    """Add the flags of a command that brings hosts something and changes nothing that runs: it asks only if told to."""
    ask_at_all = click.option("--ask", is_flag=True, help="Ask before anything is pushed.")
    for option in (everything, selectors, file, verbose, as_json, break_glass, ask_at_all, all_or_nothing):
        command = option(command)
    return command


def reads(command: Command) -> Command:
    """Add the flags of commands that only look. Without a selector they mean all hosts."""
    for option in (selectors, file, as_json, everything):
        command = option(command)
    return command
