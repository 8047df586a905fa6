"""Say each event in a line or two, for every kind of screen."""

from __future__ import annotations

from fleet.events import (
    BuildFinished,
    CheckReported,
    EvaluationFinished,
    Event,
    FindingReported,
    HostCondemned,
    HostFetched,
    HostFinished,
    HostPlanned,
    HostProven,
    HostQueued,
    HostReplanned,
    HostSwitched,
    PolicyApplied,
    PushFinished,
    RecordingLost,
    RecordingResumed,
    RolloutAsked,
    RunInterrupted,
    RunStarted,
    SoakFinished,
    SoakStarted,
    UndoStarted,
    WaveFinished,
    WaveStarted,
)
from fleet.model import HostResult, Outcome, Phase
from fleet.output.format import change, counted, human_bytes, human_seconds, unprefixed
from fleet.text import listed, local_time

_ASKED = {
    "pause": "the rollout is paused: no further host begins until fleet rollout continue",
    "continue": "the rollout goes on",
    "abort": "the rollout is aborted: no further host begins",
}
SHARED_PHASES = frozenset({Phase.PREFLIGHT, Phase.EVALUATE, Phase.BUILD})
"""The phases that all selected hosts are in together. They are shown once, and not for each host."""


def fact_lines(event: Event) -> list[str]:
    """Return what the event says to a person; nothing for an event that only moves a progress display."""
    return _run_lines(event) or _turn_lines(event) or _recording_lines(event) or _host_lines(event)


def _run_lines(event: Event) -> list[str]:
    match event:
        case RunStarted(run=run, verb=verb, hosts=hosts):
            return [f"fleet: run {run}: {verb} {counted(len(hosts), 'host')}"]
        case EvaluationFinished(derivations=derivations, recalled=recalled, seconds=seconds):
            known = f", {recalled} of them from the evaluation cache: the source has not changed" if recalled else ""
            return [f"fleet: evaluated {counted(len(derivations), 'host')} in {human_seconds(seconds)}{known}"]
        case BuildFinished(derivations=count, seconds=seconds):
            return [f"fleet: built {counted(count, 'system')} in {human_seconds(seconds)}"]
        case WaveStarted(wave=wave, waves=waves, hosts=hosts):
            return [f"fleet: wave {wave} of {waves}: {listed(hosts, most=6)}"]
        case WaveFinished(wave=wave, waves=waves, outcomes=outcomes):
            ended = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in outcomes.items())
            return [f"fleet: wave {wave} of {waves} has ended: {ended}"]
        case SoakStarted(wave=wave, hosts=hosts, seconds=seconds):
            return [f"fleet: wave {wave} soaks for {human_seconds(seconds)}: {listed(hosts, most=6)}"]
        case SoakFinished(wave=wave, unwell=unwell):
            bad = "; ".join(f"{host}: {why}" for host, why in unwell.items())
            return [f"fleet: wave {wave} has soaked: {bad or 'all is well'}"]
        case RolloutAsked(asked=asked, who=who):
            return [f"fleet: {_ASKED.get(asked, asked)}{f' ({who})' if who else ''}"]
        case UndoStarted(hosts=hosts, undo=undo):
            going = "goes" if len(hosts) == 1 else "go"
            return [f"fleet: the run has failed: {listed(hosts, most=6)} {going} back, as run {undo}"]
        case PolicyApplied():
            return _policy_lines(event)
        case RunInterrupted():
            going_on = "no further host begins; hosts that switched are proven or reverted"
            return [f"fleet: interrupted: {going_on} (again: leave at once)"]
    return []


def _policy_lines(event: PolicyApplied) -> list[str]:
    if event.broken_by:
        rules = listed(event.rules, most=6)
        return [f"fleet: break-glass: {event.broken_by} goes on against {rules}: {event.reason}"]
    return [f"fleet: policy.toml asks, and this is {event.satisfied}"] if event.satisfied else []


def _recording_lines(event: Event) -> list[str]:
    match event:
        case RecordingLost(why=why):
            return [
                f"fleet: {why}; no further host begins until it is back, and hosts that have begun are seen through"
            ]
        case RecordingResumed(seconds=seconds):
            return [f"fleet: everything is recorded again, after {human_seconds(seconds)}"]
    return []


def _turn_lines(event: Event) -> list[str]:
    match event:
        case HostQueued(host=host, waits_for=run, whose=whose, intent=intent, ahead=ahead):
            why = f" ({intent})" if intent else ""
            others = f"; {ahead} more before it" if ahead else ""
            since = local_time(event.since, "%H:%M:%S")
            return [f"{host}: waits for run {run} of {whose}, there since {since}{why}{others}"]
        case HostReplanned(host=host, closure=closure, running=running, meanwhile=lines):
            planned = f"{host}: planned anew, since others came first: {change(running, closure, host)}"
            return [planned, *(f"{host}: meanwhile: {line}" for line in lines)]
    return []


def _host_lines(event: Event) -> list[str]:
    match event:
        case FindingReported(host=host, severity=severity, message=message, hint=hint):
            about = host or "fleet"
            return [
                f"{about}: {severity.value}: {unprefixed(message, host)}",
                *([f"{about}: hint: {hint}"] if hint else []),
            ]
        case HostPlanned():
            return [_planned(event)]
        case HostFetched(host=host, paths=paths, nar_bytes=size, seconds=seconds):
            amount = f"{counted(paths, 'path')}, {human_bytes(size)}"
            return [f"{host}: fetched {amount} from its own caches in {human_seconds(seconds)}"]
        case PushFinished(host=host, paths=0):
            return [f"{host}: nothing to push"]
        case PushFinished(host=host, paths=paths, nar_bytes=size, wire_bytes=wire, seconds=seconds):
            amount = f"{counted(paths, 'path')}, {human_bytes(size)}"
            return [f"{host}: pushed {amount} ({human_bytes(wire)} sent) in {human_seconds(seconds)}"]
        case HostSwitched(host=host, status=status, seconds=seconds):
            return [f"{host}: switched in {human_seconds(seconds)} (exit status {status}), not proven yet"]
        case CheckReported(host=host, check=check, passed=passed, answer=answer, stage=stage):
            said = f": {answer}" if answer else ""
            return [f"{host}: check {check} {'passed' if passed else 'failed'} ({stage}){said}"]
        case HostProven(host=host, seconds=seconds):
            return [f"{host}: proven after {human_seconds(seconds)}"]
        case HostCondemned(host=host, reason=reason):
            return [f"{host}: goes back: {reason}"]
        case HostFinished(host=host, result=result):
            return [f"{host}: {_ended(result)}"]
    return []


def ended_words(state: str) -> str:
    """Return how a transaction has ended as people read it: `rolled back` for `reverted`."""
    words = {"committed": "kept", "reverted": "rolled back", "stuck": "needs human"}
    return words.get(state, state)


def outcome_words(outcome: Outcome) -> str:
    """Return the outcome as people read it: `rolled back`."""
    return outcome.value.replace("_", " ")


def pushed(event: HostPlanned) -> str:
    """Return what would be pushed and, if that is less, what would be sent: `12 paths, 34.0 MiB as 3.1 MiB`."""
    paths, size = event.missing_paths - event.substitute_paths, event.missing_bytes - event.substitute_bytes
    if not paths:
        return ""
    sent = f" as {human_bytes(event.wire_bytes)}" if 0 < event.wire_bytes < size * 0.95 else ""
    return f"{counted(paths, 'path')}, {human_bytes(size)}{sent}"


def pushed_as_planned(event: PushFinished, planned: HostPlanned) -> str:
    """Return what was pushed, with the host program apart if it went along: the plan does not know of that."""
    paths, size = planned.missing_paths - planned.substitute_paths, planned.missing_bytes - planned.substitute_bytes
    if event.paths != paths + 1 or event.nar_bytes <= size:
        (line,) = _host_lines(event)
        return line
    closure = f"{counted(paths, 'path')}, {human_bytes(size)}, and " if paths else ""
    program = f"fleet's host program, {human_bytes(event.nar_bytes - size)}"
    times = f"({human_bytes(event.wire_bytes)} sent) in {human_seconds(event.seconds)}"
    return f"{event.host}: pushed {closure}{program} {times}"


def fetched(event: HostPlanned) -> str:
    """Return what the host would fetch from its own caches: `12 paths, 34.0 MiB`."""
    if not event.substitute_paths:
        return ""
    return f"{counted(event.substitute_paths, 'path')}, {human_bytes(event.substitute_bytes)}"


def _planned(event: HostPlanned) -> str:
    parts = [f"{event.host}: plan: {event.action} {change(event.running, event.closure, event.host)}"]
    if words := pushed(event):
        parts.append(f"push {words}")
    if words := fetched(event):
        parts.append(f"fetch {words} from its own caches")
    if event.reboot:
        parts.append(f"a reboot is needed for {listed(event.reboot)}")
    return "; ".join(parts)


def _ended(result: HostResult) -> str:
    words = outcome_words(result.outcome)
    if result.seconds:  # a host that never began took no time
        words += f" in {human_seconds(result.seconds)}"
    if result.failure is not None:
        return f"{words}: {unprefixed(result.failure.message, result.host)}"
    return words
