"""Decide what happens to each host. Pure functions: requests and findings become parts, and parts become a plan."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fleet.deploy.advance import LEFT_OUT
from fleet.events import FindingReported, HostPlanned
from fleet.inventory import BuildOn
from fleet.model import Goal, Outcome, Verb
from fleet.plans import Action, LeftOut, OtherSource, Part, SoakOf
from fleet.steps.reboot import goes_by_reboot
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from fleet.deploy.options import Options
    from fleet.deploy.target import Wanted
    from fleet.events import Event
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host, SecretPlace
    from fleet.model import Closure, HostName, HostResult
    from fleet.selector import Wave
    from fleet.steps.load import Contents
    from fleet.steps.survey import Survey


def part_of(
    host: Host,
    facts: HostFacts,
    wanted: Wanted,
    seen: Survey,
    options: Options,
    *,
    contents: Contents | None,
    expires: int,
) -> Part:
    """Return the host's part of the plan: what it is asked to do, and what it must look like when that begins.

    `contents` describes the contents of the closure if they are known here. `expires` is in seconds since 1970.
    """
    goal = _goal(options, seen)
    secrets = _secrets(host, options, goal)
    return Part(
        host=host.name,
        closure=wanted.closure,
        derivation=wanted.evaluated.derivation if wanted.evaluated else None,
        build_on=BuildOn.TARGET if wanted.is_built_there else BuildOn.CONTROLLER,
        manifest=contents.manifest if contents and wanted.is_local else "",
        expected=facts.running,
        link=facts.link,
        serial=facts.serial,
        action=Action.SECRETS if secrets and seen.action is Action.UNCHANGED else seen.action,
        goal=goal,
        activation_timeout=max(1, round(host.activation_timeout)),
        confirm_timeout=max(1, round(host.confirm_timeout)),
        boot_timeout=max(1, round(host.boot_timeout)),
        settle=host.settle,
        watch=options.watch,
        checks=host.checks,
        hooks=host.hooks if options.goal is not Goal.DRY_ACTIVATE else (),
        secrets=secrets,
        checks_decide=options.checks_decide,
        ignore_units=host.ignore_units,
        ignore_snippets=host.ignore_snippets,
        accept_boot_risk=options.accept_boot_risk,
        force=options.force,
        retry_quarantined=options.retry_quarantined,
        last_resort=host.last_resort or "",
        windows=host.window if options.windows_count else (),
        offline=host.offline,
        substitute=host.substitute,
        copy_with=options.copy_with,
        reboot=seen.reboot,
        gate=seen.gate,
        expires=expires,
    )


def _secrets(host: Host, options: Options, goal: Goal) -> tuple[SecretPlace, ...]:
    """Return where the secrets of the host go.

    A rollback leaves them alone, so that a value that cannot be read here cannot stop it. After a reboot those in
    memory have to be filled again, whatever it is for.
    """
    if not goal.switches or (options.verb is Verb.ROLLBACK and goal is not Goal.BOOT):
        return ()
    return tuple(secret.place for secret in host.secrets.values())


def _goal(options: Options, seen: Survey) -> Goal:
    """Return what the host is left with: `boot` if it goes by way of a reboot, otherwise what was asked for."""
    if options.verb is Verb.PUSH:
        return Goal.PUSH
    is_reboot = seen.action is Action.SWITCH and goes_by_reboot(options.reboot, seen.reboot)
    return Goal.BOOT if is_reboot and options.switches else options.goal


def unchanged_event(host: Host, facts: HostFacts, closure: Closure) -> HostPlanned:
    """Return the event that reports a host which runs its closure already, and boots it next."""
    return HostPlanned(
        host=host.name,
        action=Action.UNCHANGED.value,
        closure=closure,
        running=facts.running,
        wave=0,
        missing_paths=0,
        missing_bytes=0,
        room_free=facts.nix_free,
        reboot=facts.reboot_pending,
    )


def left_out(
    results: Mapping[HostName, HostResult], order: Sequence[HostName], wanted: Mapping[HostName, Wanted]
) -> tuple[LeftOut, ...]:
    """Return the hosts that nothing will happen to, and why, in this order: the order they ended in is an accident."""
    return tuple(_left_out(results[name], wanted.get(name)) for name in order if name in results)


def _left_out(ended: HostResult, wanted: Wanted | None) -> LeftOut:
    is_away = ended.outcome is Outcome.DEFERRED and wanted is not None
    return LeftOut(
        host=ended.host,
        outcome=ended.outcome,
        kind=ended.failure.kind if ended.failure else "",
        message=ended.failure.message if ended.failure else "",
        closure=wanted.closure if wanted and is_away else "",
        derivation=wanted.evaluated.derivation if wanted and is_away and wanted.evaluated else "",
    )


def waves_that_begin(
    waves: Sequence[Sequence[HostName]], jobs: Collection[HostName], results: Mapping[HostName, HostResult]
) -> dict[HostName, str]:
    """Return the hosts that have a job and do not begin since nobody of an earlier wave takes part, each with why.

    Whoever stands on the closure takes part. So does nobody who is away: they were to show whether the others may go.
    """
    for number, wave in enumerate(waves, 1):
        if not any(name in jobs or results[name].outcome not in LEFT_OUT for name in wave):
            why = f"not begun: nobody of wave {number} takes part ({listed(wave, most=3)})"
            return {name: why for later in waves[number:] for name in later if name in jobs}
    return {}


def soaks(waves: Sequence[Wave]) -> tuple[SoakOf, ...]:
    """Return the soaks of these waves, of which several may be one wave of fleet.toml."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, wave in enumerate(waves, 1):
        first.setdefault(wave.of, number)
        last[wave.of] = number
    found = {wave.of: wave.soak for wave in waves if wave.soak}
    return tuple(SoakOf(first[of], last[of], seconds) for of, seconds in found.items())


def of_planned(sources: Iterable[OtherSource], jobs: Collection[HostName]) -> tuple[OtherSource, ...]:
    """Return the sources of the hosts that something will happen to, without other hosts."""
    planned = (
        dataclasses.replace(source, hosts=tuple(name for name in source.hosts if name in jobs)) for source in sources
    )
    return tuple(source for source in planned if source.hosts)


def findings(events: Iterable[Event], order: Sequence[HostName]) -> tuple[FindingReported, ...]:
    """Return what was found while the plan was made, which people should know before they agree to it.

    What is about all hosts comes first, then the hosts follow in this order.
    """
    found = [event for event in events if isinstance(event, FindingReported)]
    places = {name: place for place, name in enumerate(order)}
    return tuple(sorted(found, key=lambda finding: -1 if finding.host is None else places[finding.host]))
