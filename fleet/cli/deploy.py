"""`fleet deploy` and `fleet push`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options

if TYPE_CHECKING:
    from fleet.model import Closure


@click.command()
@options.changes
@click.option(
    "--goal",
    type=click.Choice(["switch", "test", "boot", "dry-activate"]),
    default="switch",
    show_default=True,
    help="test: keep it until the next boot only. boot: the same as --reboot always. "
    "dry-activate: push, and tell what a switch would do.",
)
@click.option("--watch", metavar="TIME", default="0s", help="Prove for at least this long (10m) before keeping it.")
@options.reboots
@options.closure
@options.no_eval_cache
@options.keep_going
@options.retry_quarantined
@options.copy_with
def deploy(goal: str, watch: str, closure: Closure | None, copy_with: str, **common: Any) -> int:
    """Build, push, switch and prove; a host that is not proven healthy is back on its old system.

    \b
    fleet deploy --all
    fleet deploy '@prod,!gpu-*' --watch 10m
    fleet deploy gpu-01 --closure /nix/store/…-nixos-system-gpu-01
    fleet deploy gpu-01 --reboot if-needed
    """
    from fleet.model import Goal, Reboot

    reboot = options.asked_reboot(common)
    if goal == Goal.BOOT:
        goal, reboot["reboot"] = Goal.SWITCH, Reboot.ALWAYS
    elif goal != Goal.SWITCH and reboot["reboot"] is not Reboot.NEVER:
        raise click.UsageError(f"--goal {goal} never reboots: leave out --reboot")
    return _change(
        "deploy",
        common,
        **reboot,
        goal=Goal(goal),
        closure=closure,
        copy_with=copy_with,
        watch=_seconds("--watch", watch),
        keep_going=common.pop("keep_going"),
        retry_quarantined=common.pop("retry_quarantined"),
    )


@click.command()
@options.changes
@options.closure
@options.no_eval_cache
@options.keep_going
@options.copy_with
def push(closure: Closure | None, copy_with: str, *, keep_going: bool, **common: Any) -> int:
    """Build, and copy the closures to the hosts, where they wait; nothing is switched.

    \b
    fleet push --all
    """
    return _change("push", common, closure=closure, keep_going=keep_going, copy_with=copy_with)


@click.command()
@options.changes
@click.option("--to", "back_to", metavar="GENERATION|PATH", help="Default: what ran before the last deployment.")
@click.option("--strict", is_flag=True, help="Declared checks that fail stop it; without this they are only told.")
@options.reboots
def rollback(back_to: str | None, *, strict: bool, **common: Any) -> int:
    """Go back to the system that ran before, as carefully as forward.

    \b
    fleet rollback pi-edge
    fleet rollback pi-edge --to 41
    """
    reboot = options.asked_reboot(common)
    return _change("rollback", common, **reboot, back_to=back_to, strict=strict, retry_quarantined=True)


def _seconds(flag: str, text: str) -> float:
    from fleet.errors import ConfigError
    from fleet.inventory import amounts

    try:
        return amounts.seconds(text)
    except ValueError as error:
        raise ConfigError(f"{flag}: {error}") from None


def _change(verb: str, common: dict[str, Any], **asked: Any) -> int:
    from fleet.cli.changing import change
    from fleet.deploy.request import Request

    asked["eval_cache"] = not common.pop("no_eval_cache", True)
    request = Request(verb=verb, all_or_nothing=common.pop("all_or_nothing"), **asked)
    return change(request, **common)
