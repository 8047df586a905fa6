"""`fleet exec`: run a command on many hosts."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from fleet.cli import options, session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet import Fleet, FleetError, Stop
    from fleet.cli.questions import Consent
    from fleet.inventory import Host
    from fleet.machine import Output
    from fleet.model import HostName
    from fleet.output import Display

    Answers = dict[HostName, Output | FleetError]

MOST_AT_ONCE = 512


class WithCommand(click.Command):
    """A command whose arguments end with `--` and the words of another command, the parameter `command`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        ctx.params["command"] = tuple(args[end + 1 :])
        left = super().parse_args(ctx, args[:end])
        if not ctx.params["command"] and not ctx.resilient_parsing:
            raise click.UsageError("There is no command to run: write -- and the command after the hosts.", ctx)
        return left

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "--", "COMMAND..."]


@click.command("exec", cls=WithCommand)
@options.reads
@options.break_glass
@options.yes
@options.ask
@click.option(
    "--parallel",
    type=click.IntRange(1, MOST_AT_ONCE),
    default=64,
    show_default=True,
    metavar="N",
    help="On how many hosts at the same time.",
)
@click.option(
    "--timeout",
    default="10m",
    show_default=True,
    metavar="TIME",
    help="How long it may take on each host: then it is exit 124.",
)
def exec(
    selectors: tuple[str, ...],
    file: Path | None,
    command: tuple[str, ...],
    *,
    as_json: bool,
    everything: bool,
    parallel: int,
    timeout: str,
    **consents: Any,
) -> int:
    """Run COMMAND as root on each host, and show what it wrote there. Hosts that say the same are shown together.

    One word is a line for sh on the host, with pipes and variables. Several words are a program and its arguments, and
    no shell reads them. The command gets no input. It is ended with all that it started when its time is over, at
    Ctrl-C, and when the connection is lost; systemd-run starts what is to live on. The exit code is 1 when it fails
    on a host, or a host cannot be reached.

    \b
    fleet exec gpu-01 -- systemctl restart ollama
    fleet exec @web -- 'du -sh /var/log/*'
    fleet exec --all --parallel 1 --yes -- uptime
    """
    from fleet.cli.questions import Consent
    from fleet.library.judging import Plea

    seconds = options.seconds("--timeout", timeout)
    inventory = session.open_inventory(file)
    hosts = session.choose_computers(inventory, selectors, everything=everything)
    consent = Consent(**consents)
    consent.require_terminal(len(hosts))
    fleet = session.fleet(inventory, hosts)
    line = command[0] if len(command) == 1 else command
    asked = {"command": line, "timeout": seconds, "at_once": parallel, "plea": Plea(break_glass=consent.break_glass)}
    return asyncio.run(_execute(fleet, hosts, asked, consent, as_json=as_json))


async def _execute(
    fleet: Fleet, hosts: Sequence[Host], asked: dict[str, Any], consent: Consent, *, as_json: bool
) -> int:
    from fleet.cli.interrupts import interrupts
    from fleet.errors import INTERRUPTED, StoppedError
    from fleet.library import documents

    names = tuple(host.name for host in hosts)
    with interrupts() as stop:
        await fleet.require_act("exec", *names, plea=asked["plea"])
        with session.display(as_json=as_json) as output:
            if consent.is_asked_for(len(hosts)) and not await _is_agreed(output, stop, asked["command"], names):
                return 1
            answers = await fleet.execute(
                *names, **asked, stop=stop, on_wait=lambda left: output.wait_for("run the command", hosts=left)
            )
        if as_json:
            click.echo(json.dumps(documents.execute(answers)))
        else:
            _print(answers)
        session.tell_unentered(fleet)
    if any(isinstance(answer, StoppedError) for answer in answers.values()):
        return INTERRUPTED
    return 0 if all(row["status"] == 0 for row in documents.execute(answers)["hosts"]) else 1


async def _is_agreed(output: Display, stop: Stop, command: str | Sequence[str], names: Sequence[HostName]) -> bool:
    """Ask whether the command is to be run on these hosts. Raise `StoppedError` at a request to stop."""
    from fleet.cli import questions
    from fleet.output.format import counted, one_line
    from fleet.text import listed

    words = command if isinstance(command, str) else shlex.join(command)
    with output.paused():
        click.echo(f"{one_line(words)}\non {listed(names, most=40)}", err=True)
        agreed = await questions.agreed(f"Run this as root on {counted(len(names), 'host')}?", stop)
        if not agreed:
            click.echo(questions.UNTOUCHED, err=True)
    return agreed


def _print(answers: Answers) -> None:
    from fleet.errors import FleetError
    from fleet.output.grouped import Said, grouped_lines, summary_line

    said, failed = {}, {}
    for name, answer in answers.items():
        if isinstance(answer, FleetError):
            failed[name] = answer.kind.value.replace("_", " ")
        else:
            said[name] = Said(answer.status, answer.stdout, answer.stderr, answer.left_out)
    for line in grouped_lines(said, is_terminal=sys.stdout.isatty()):
        click.echo(line)
    session.tell_errors(answers)
    if len(answers) > 1:
        click.echo(f"\n{summary_line(said, failed)}")
