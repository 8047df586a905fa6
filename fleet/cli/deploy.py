"""`fleet deploy`, `fleet push` and `fleet rollback`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options
from fleet.cli.reporting import Reporting
from fleet.model import Verb

if TYPE_CHECKING:
    from fleet.model import Closure


@click.command(cls=Reporting)
@options.changes
@options.deployment
@options.workers
def deploy(*, by_workers: bool, **common: Any) -> int:
    """Build, push, switch and prove; a host that is not proven healthy is back on its old system.

    \b
    fleet deploy --all
    fleet deploy '@prod,!gpu-*' --watch 10m
    fleet deploy gpu-01 --closure /nix/store/…-nixos-system-gpu-01
    fleet deploy gpu-01 --reboot if-needed
    fleet deploy --all --workers
    """
    return _change(Verb.DEPLOY, common, by_workers=by_workers, **options.asked_deployment(common))


@click.command(cls=Reporting)
@options.pushes
@options.closure
@options.no_eval_cache
@options.keep_going
@options.copy_with
def push(closure: Closure | None, copy_with: str, *, keep_going: bool, no_eval_cache: bool, **common: Any) -> int:
    """Build, and copy the closures to the hosts, where they wait; nothing is switched.

    \b
    fleet push --all
    """
    return _change(
        Verb.PUSH,
        common,
        closure=closure,
        keep_going=keep_going,
        copy_with=copy_with,
        eval_cache=not no_eval_cache,
        all_or_nothing=common.pop("all_or_nothing"),
    )


@click.command(cls=Reporting)
@options.changes
@click.option(
    "--to",
    "back_to",
    metavar="GENERATION|PATH",
    shell_complete=options.completes("generation"),
    help="Default: what ran before the last deployment.",
)
@click.option("--strict", is_flag=True, help="Declared checks that fail stop it; without this they are only told.")
@options.reboots
@options.intent
def rollback(back_to: str | None, intent: str, *, strict: bool, **common: Any) -> int:
    """Go back to the system that ran before, as carefully as forward. A second time goes forward again.

    \b
    fleet rollback pi-edge
    fleet rollback pi-edge --to 41
    """
    return _change(
        Verb.ROLLBACK,
        common,
        **options.asked_reboot(common),
        back_to=back_to,
        strict=strict,
        retry_quarantined=True,
        all_or_nothing=common.pop("all_or_nothing"),
        intent=intent,
    )


def _change(verb: Verb, common: dict[str, Any], *, by_workers: bool = False, **asked: Any) -> int:
    from fleet.cli.changing import change
    from fleet.cli.questions import Consent
    from fleet.deploy.options import Options

    consent = Consent(
        yes=common.pop("yes", False),
        ask=common.pop("ask"),
        break_glass=common.pop("break_glass"),
        by_workers=by_workers,
    )
    return change(Options(verb=verb, **asked), **common, consent=consent)
