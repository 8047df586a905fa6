"""Show a plan to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.events import FindingReported, HostPlanned
from fleet.output.format import counted, human_seconds, unprefixed
from fleet.output.summary import plan_lines
from fleet.plans.announce import announced
from fleet.text import listed, local_time, plain_text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from fleet.model import HostName
    from fleet.plans import Part, Plan, Source


def describe(
    plan: Plan, *, now: float, hosts: Collection[HostName] | None = None, is_terminal: bool = False
) -> list[str]:
    """Return the lines that describe a plan: what it does, who made it, when, and from what.

    They are about all of its hosts, or only about `hosts`. `now` is in seconds since 1970.
    """
    hosts = plan.hosts if hosts is None else hosts
    events = list(announced(plan, hosts))
    planned = [event for event in events if isinstance(event, HostPlanned)]
    findings = [event for event in events if isinstance(event, FindingReported)]
    waves = [[name for name in wave if name in hosts] for wave in plan.waves]
    lines = [f"{plan.verb} of {plan.fleet}, planned by {plan.by} at {_at(plan.made)}: {plan.digest}"]
    if plan.intent:
        lines.append(f"intent:  {plan.intent}")
    if plan.amends:
        lines.append(f"amends:  {plan.amends}")
    if plan.source.reference:
        lines.append(f"source:  {told_source(plan.source)}")
    lines += [f"         {told_source(other.source)}, for {listed(other.hosts)}" for other in plan.other_sources]
    if plan.nix_options:
        lines.append(f"nix:     {', '.join(f'{name} = {value}' for name, value in plan.nix_options)}")
    remaining = plan.expires - now
    when = f"in {human_seconds(remaining)}" if remaining > 0 else "it cannot be applied any more"
    lines.append(f"expires: {_at(plan.expires)}, {when}")
    lines += _terms(plan, [plan.parts[name] for name in hosts])
    lines = [plain_text(line) for line in lines]
    lines += ["", *plan_lines(planned, [wave for wave in waves if wave], findings, is_terminal=is_terminal)]
    if plan.left_out and hosts == plan.hosts:
        lines += [
            "",
            *(
                plain_text(
                    f"{host.host}: {host.outcome}{': ' * bool(host.message)}{unprefixed(host.message, host.host)}"
                )
                for host in plan.left_out
            ),
        ]
    return lines


def told_source(source: Source) -> str:
    """Return where systems come from, at which commit, and whether that is all."""
    commit = f" at {source.revision}" if source.revision else ""
    state = ", with changes that are in no commit" if commit and not source.is_clean else ""
    return f"{source.reference}{commit}{state}"


def _terms(plan: Plan, parts: Sequence[Part]) -> list[str]:
    """Return the lines about how the hosts of these parts are taken through the plan, and how they are judged."""
    watch = max((part.watch for part in parts), default=0.0)
    watched = f", watched for {human_seconds(watch)}" if watch else ""
    checks: dict[str, list[HostName]] = {}
    for part in parts:
        for check in part.checks:
            checks.setdefault(check.name, []).append(part.host)
    on_hosts = [name if len(on) == len(parts) else f"{name} on {listed(on)}" for name, on in checks.items()]
    unchecked = [part.host for part in parts if not part.checks]
    if checks and unchecked:
        on_hosts.append(f"none but systemd and a new login on {listed(unchecked)}")
    nothing = "; nothing is pushed if one host cannot take part" if plan.all_or_nothing else ""
    return [
        f"goal:    {plan.goal}{watched}",
        f"checks:  {'; '.join(on_hosts) or 'none but systemd and a new login'}",
        f"rollout: {plan.at_once} at once, stops when {counted(plan.max_failures + 1, 'host')} ended badly{nothing}",
    ]


def _at(moment: int) -> str:
    return local_time(moment)
