"""Build the JSON documents of commands that look, and of plans. docs/json.md describes each; a test compares them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from fleet.errors import FleetError
from fleet.events import FindingReported, HostFinished, HostPlanned, envelope_json, event_json
from fleet.plans.announce import announced
from fleet.steps.hardware import power_trouble
from fleet.text import whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.diff import SystemDiff
    from fleet.events import Event
    from fleet.host.answers import Generation
    from fleet.host.facts import HostFacts
    from fleet.host.history import PastTransaction
    from fleet.library.changes import Changes, HostChanges
    from fleet.library.past import PastRun
    from fleet.library.seen import LastSeen
    from fleet.library.views import Health
    from fleet.machine import Output
    from fleet.model import HostName
    from fleet.plans import Plan
    from fleet.policy import Verdict
    from fleet.state import Delivery, RunRecord

Document = dict[str, Any]


def status(
    answers: Mapping[HostName, HostFacts | FleetError | None],
    last: Mapping[HostName, LastSeen] | None = None,
    waits: Mapping[HostName, Delivery] | None = None,
) -> Document:
    """Describe what each host runs, keeps and boots. None stands for a host that was not asked yet.

    `last` has what was seen of hosts that do not answer, `waits` what hosts should get that were away.
    """
    rows = []
    for name, answer in answers.items():
        waiting = (waits or {}).get(name)
        behind = {"closure": waiting.closure, "since": waiting.first, "missed": waiting.missed} if waiting else None
        rows.append({**_status(name, answer, (last or {}).get(name)), "behind": behind})
    return {"hosts": rows}


_NOT_KNOWN: Document = {
    **dict.fromkeys(("running", "profile", "boot_default", "booted", "generation", "reboot_pending", "transaction")),
    "quarantined": (),
    "failed_units": (),
    "missing_secrets": (),
    **dict.fromkeys(("since", "staged", "nix_free", "boot_free")),
    "gpu_jobs": (),
    "agents": (),
    "power": "",
    "read_only": (),
}
"""What is said of a host that does not answer."""


def _status(name: HostName, answer: HostFacts | FleetError | None, last: LastSeen | None) -> Document:
    if answer is None or isinstance(answer, FleetError):
        error = None if answer is None else _error(answer)
        reachable = None if answer is None else False
        seen = last.shown if last is not None else None
        return {"name": name, "reachable": reachable, **_NOT_KNOWN, "last_seen": seen, "error": error}
    return {
        "name": name,
        "reachable": True,
        "running": answer.running,
        "profile": answer.profile,
        "boot_default": answer.boot_default,
        "booted": answer.booted,
        "generation": whole_number(answer.generation) or None,
        "reboot_pending": bool(answer.reboot_pending),
        "transaction": dataclasses.asdict(answer.transaction) if answer.transaction else None,
        "quarantined": list(answer.quarantined),
        "failed_units": list(answer.failed_units),
        "missing_secrets": list(answer.missing_secrets),
        "since": answer.since or None,
        "staged": answer.staged,
        "nix_free": answer.nix_free,
        "boot_free": answer.boot_free,
        "gpu_jobs": list(answer.gpu_jobs),
        "agents": [{"name": name, "packages": list(packages)} for name, packages in answer.agents.items()],
        "power": power_trouble(answer),
        "read_only": [*answer.read_only, *answer.boot_read_only],
        "last_seen": None,
        "error": None,
    }


def health(answers: Mapping[HostName, Health | FleetError]) -> Document:
    """Describe what the checks of each host answer, and which of its units have failed."""
    return {"hosts": [_health(name, answer) for name, answer in answers.items()]}


def _health(name: HostName, answer: Health | FleetError) -> Document:
    if isinstance(answer, FleetError):
        return {"name": name, "healthy": False, "checks": [], "failed_units": [], "error": _error(answer)}
    return {
        "name": name,
        "healthy": answer.is_healthy,
        "checks": [dataclasses.asdict(check) for check in answer.checks],
        "failed_units": list(answer.facts.failed_units),
        "error": None,
    }


def generations(answers: Mapping[HostName, tuple[Generation, ...] | FleetError]) -> Document:
    """Describe the generations of each host."""
    return {"hosts": [_generations(name, answer) for name, answer in answers.items()]}


def _generations(name: HostName, answer: tuple[Generation, ...] | FleetError) -> Document:
    if isinstance(answer, FleetError):
        return {"name": name, "generations": [], "error": _error(answer)}
    return {"name": name, "generations": [dataclasses.asdict(generation) for generation in answer], "error": None}


def history(answers: Mapping[HostName, tuple[PastTransaction, ...] | FleetError], *, most: int) -> Document:
    """Describe the newest transactions of each host, at most so many, newest first."""
    return {"hosts": [_history(name, answer, most) for name, answer in answers.items()]}


def _history(name: HostName, answer: tuple[PastTransaction, ...] | FleetError, most: int) -> Document:
    if isinstance(answer, FleetError):
        return {"name": name, "transactions": [], "error": _error(answer)}
    newest = answer[::-1][:most]
    return {"name": name, "transactions": [dataclasses.asdict(entry) for entry in newest], "error": None}


def changes(found: Changes) -> Document:
    """Describe what has happened on each host, oldest first, and the cursor that stands for now."""
    return {"hosts": [_changes(name, answer) for name, answer in found.hosts.items()], "cursor": found.cursor}


def _changes(name: HostName, answer: HostChanges | FleetError) -> Document:
    if isinstance(answer, FleetError):
        return {"name": name, "transactions": [], "complete": False, "error": _error(answer)}
    entries = [dataclasses.asdict(entry) for entry in answer.transactions]
    return {"name": name, "transactions": entries, "complete": answer.is_complete, "error": None}


def who(answers: Mapping[HostName, HostFacts | FleetError]) -> Document:
    """Describe who is at work on each host, who waits there, and who was the last."""
    return {"hosts": [_who(name, answer) for name, answer in answers.items()]}


def _who(name: HostName, answer: HostFacts | FleetError) -> Document:
    if isinstance(answer, FleetError):
        return {"name": name, "transaction": None, "waiting": [], "last": None, "error": _error(answer)}
    return {
        "name": name,
        "transaction": dataclasses.asdict(answer.transaction) if answer.transaction else None,
        "waiting": [dataclasses.asdict(ticket) for ticket in answer.waiting],
        "last": dataclasses.asdict(answer.last) if answer.last else None,
        "error": None,
    }


def execute(answers: Mapping[HostName, Output | FleetError]) -> Document:
    """Describe what a command wrote on each host, and how it ended there."""
    return {"hosts": [_execute(name, answer) for name, answer in answers.items()]}


def _execute(name: HostName, answer: Output | FleetError) -> Document:
    if isinstance(answer, FleetError):
        return {"name": name, "status": None, "stdout": "", "stderr": "", "left_out": 0, "error": _error(answer)}
    return {"name": name, **dataclasses.asdict(answer), "error": None}


def plan(events: Iterable[Event], made: Plan | None, error: FleetError | None) -> Document:
    """Describe what was reported while a plan was made. `made` is None if there is no plan."""
    events = tuple(events)
    return {
        "plan": made.digest if made is not None else None,
        "hosts": [event_json(event) for event in events if isinstance(event, HostPlanned)],
        "findings": [event_json(event) for event in events if isinstance(event, FindingReported)],
        "error": _error(error) if error is not None else None,
    }


def whole_plan(made: Plan) -> Document:
    """Describe a plan with everything in it."""
    events = list(announced(made, made.hosts))
    return {
        **plan(events, made, None),
        "fleet": made.fleet,
        "by": made.by,
        "verb": made.verb.value,
        "goal": made.goal.value,
        "made": made.made,
        "expires": made.expires,
        "source": vars(made.source),
        "other_sources": [{"hosts": list(other.hosts), **vars(other.source)} for other in made.other_sources],
        "nix_options": dict(made.nix_options),
        "intent": made.intent,
        "fleet_id": made.fleet_id,
        "amends": made.amends,
        "at_once": made.at_once,
        "max_failures": made.max_failures,
        "waves": [list(wave) for wave in made.waves],
        "left_out": [vars(host) for host in made.left_out],
        "parts": {name: made.parts[name].text for name in sorted(made.parts)},
    }


def runs(records: Iterable[tuple[RunRecord, bool]]) -> Document:
    """Describe the runs that this machine remembers, given each with whether it is under way."""
    return {"runs": [_run(record, is_under_way=is_under_way) for record, is_under_way in records]}


def _run(record: RunRecord, *, is_under_way: bool) -> Document:
    hosts = [
        {"name": host.name, "outcome": host.result.outcome.value if host.result else None, "settled": host.is_settled}
        for host in record.hosts.values()
    ]
    return {
        "run": record.id,
        "verb": record.verb,
        "under_way": is_under_way,
        "open": record.is_open and not is_under_way,
        "exit_code": record.exit_code,
        "hosts": hosts,
    }


def past_run(past: PastRun, host: HostName | None = None, diff: SystemDiff | None = None) -> Document:
    """Describe a run with its events and results: of all hosts, or of one with what the run was to change there."""
    from fleet.diff import diff_json

    record = past.record
    results = {result.host: result for result in past.finished.hosts}
    names = list(record.hosts) if host is None else [host]
    hosts = []
    for name in names:
        result = results.get(name)
        hosts.append({
            "name": name,
            "result": event_json(HostFinished(host=name, result=result))["result"] if result else None,
            "settled": record.hosts[name].is_settled,
            "evidence": [str(file) for file in past.evidence(name)],
        })  # fmt: skip
    events = past.envelopes if host is None else past.of_host(host)
    return {
        **_run(record, is_under_way=past.is_under_way),
        "by": record.by,
        "started": record.started,
        "finished": record.finished,
        "plan": record.plan,
        "intent": past.plan.intent if past.plan else "",
        "source": vars(past.plan.source) if past.plan else None,
        "folder": str(past.folder),
        "hosts": hosts,
        "events": [envelope_json(envelope) for envelope in events],
        "diff": diff_json({host: diff})["hosts"][0] if host is not None and diff is not None else None,
    }


def verdict(made: Plan, found: Verdict | None, *, unsigned: str = "") -> Document:
    """Describe what a policy says about a plan; None stands for a fleet that has none.

    `unsigned` says which gates take the plan only when somebody has signed it; empty if none is like that.
    """
    if found is None:
        nothing = {"hosts": [], "approvals": [], "satisfied": "", "lacking": ""}
        return {"plan": made.digest, "allowed": not unsigned, **nothing, "unsigned": unsigned}
    refused = frozenset(found.refused)
    rows = [
        {
            "name": host,
            "decision": found.decisions[host].value,
            "allowed": host not in refused,
            "rules": [{"rule": demand.rule, "says": demand.says.value, "why": demand.why} for demand in demands],
        }
        for host, demands in found.by_host.items()
    ]
    return {
        "plan": made.digest,
        "allowed": not refused and not unsigned,
        "hosts": rows,
        "approvals": [{"by": one.by, "touched": one.is_touched} for one in found.approvals],
        "satisfied": found.satisfied,
        "lacking": found.lacking,
        "unsigned": unsigned,
    }


def _error(error: FleetError) -> Document:
    return dataclasses.asdict(error.failure())
