"""What is told of a run that has ended: a title, lines of text, and one JSON document.

The title is made of our own words and of names that fleet.toml allows, so that it says nothing that a host said. What
hosts and people have said stands in the lines and in the fields, bounded, on one line each, without control characters.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleet.errors import INTERRUPTED
from fleet.inventory import Occasion
from fleet.model import Outcome
from fleet.text import listed, local_time, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.model import Failure, HostResult

MOST_HOSTS = 50
"""Hosts that are told of one by one."""
LONGEST = 500
"""Characters of what was said, at most."""
NEEDS_HUMAN = 4
"""The exit code of a run after which some host needs a human: see docs/outcomes.md."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run that has ended. Times are in seconds since 1970."""

    fleet: str
    run: str
    command: str
    """What was asked for, such as `deploy`."""
    exit_code: int
    by: str
    """The person or program that acted."""
    origin: str
    """The name of the machine that `fleet` ran on."""
    intent: str = ""
    started: float | None = None
    finished: float
    error: Failure | None = None
    """What ended the run as a whole, if anything did."""
    hosts: Sequence[HostResult] = ()


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is told."""

    occasion: Occasion
    title: str
    """One line for people, of our own words."""
    lines: tuple[str, ...]
    """What people may want to know beside the title."""
    document: dict[str, Any]
    """The same for programs: docs/notifications.md has its fields."""


def text_of(message: Message) -> str:
    """Return the lines as one text. Each begins with words of ours, so that nobody else's can pass for a line."""
    return "".join(f"{line}\n" for line in message.lines)


def message_about(ended: Ended) -> Message:
    """Return what is told of a run."""
    occasion = _occasion(ended.exit_code)
    outcomes = Counter(host.outcome for host in ended.hosts)
    bad = [host for host in ended.hosts if not host.is_good]
    title = _title(ended, occasion, outcomes, bad)
    return Message(
        occasion=occasion, title=title, lines=tuple(_lines(ended, bad)), document=_document(ended, occasion, title, bad)
    )


def trial(fleet: str, by: str, origin: str, now: float) -> Message:
    """Return a message with which people try whether they are told."""
    ended = Ended(fleet=fleet, run="", command="notify", exit_code=0, by=by, origin=origin, finished=now)
    title = f"fleet {fleet}: a trial"
    document = _document(ended, Occasion.FINISHED, title, ())
    line = f"somebody tries whether messages about the fleet {fleet} arrive"
    return Message(occasion=Occasion.FINISHED, title=title, lines=(line, *_who(ended)), document=document)


def _occasion(exit_code: int) -> Occasion:
    if exit_code == 0:
        return Occasion.FINISHED
    return Occasion.NEEDS_HUMAN if exit_code == NEEDS_HUMAN else Occasion.FAILED


def _title(ended: Ended, occasion: Occasion, outcomes: Counter[Outcome], bad: Sequence[HostResult]) -> str:
    counts = [f"{count} {outcome.value.replace('_', ' ')}" for outcome in Outcome if (count := outcomes[outcome])]
    if ended.exit_code == INTERRUPTED:
        counts.append("interrupted")
    elif ended.error is not None:
        counts.insert(0, f"{ended.error.kind.value.replace('_', ' ')} error")
    worst = [host.host for host in bad if host.outcome is Outcome.NEEDS_HUMAN] or [host.host for host in bad]
    names = f" ({listed(worst, most=4)})" if occasion is not Occasion.FINISHED and worst else ""
    verdict = {
        Occasion.FINISHED: "finished",
        Occasion.FAILED: "failed",
        Occasion.NEEDS_HUMAN: "needs a human",
    }[occasion]
    return shortened(f"fleet {ended.fleet}: {ended.command} {verdict}: {', '.join(counts) or 'no hosts'}{names}", 200)


def _lines(ended: Ended, bad: Sequence[HostResult]) -> list[str]:
    lines = [f"intent: {_one_line(ended.intent)}"] if ended.intent else []
    if ended.error is not None:
        lines.append(f"error: {_one_line(ended.error.message)}")
    for host in bad[:MOST_HOSTS]:
        failure = host.failure
        said = f": {_one_line(failure.message)}" if failure is not None else ""
        lines.append(f"{host.host}: {host.outcome.value.replace('_', ' ')}{said}")
        if failure is not None and failure.now:
            lines.append(f"  now: {_one_line(failure.now)}")
    if len(bad) > MOST_HOSTS:
        lines.append(f"and {len(bad) - MOST_HOSTS} more hosts")
    return [*lines, *_who(ended)]


def _who(ended: Ended) -> list[str]:
    run = f"run {ended.run}, " if ended.run else ""
    when = local_time(ended.finished, "%Y-%m-%d %H:%M %Z")
    shows = [f"fleet runs show {ended.run} tells more, on {_one_line(ended.origin)}"] if ended.run else []
    return [f"{run}by {_one_line(ended.by)} on {_one_line(ended.origin)}, {when}", *shows]


def _document(ended: Ended, occasion: Occasion, title: str, bad: Sequence[HostResult]) -> dict[str, Any]:
    outcomes = Counter(host.outcome.value for host in ended.hosts)
    return {
        "v": 1,
        "event": occasion.value,
        "text": title,
        "fleet": ended.fleet,
        "run": ended.run,
        "command": ended.command,
        "exit_code": ended.exit_code,
        "by": _one_line(ended.by),
        "origin": _one_line(ended.origin),
        "intent": _one_line(ended.intent),
        "started": ended.started,
        "finished": ended.finished,
        "error": _failure(ended.error),
        "outcomes": dict(outcomes),
        "hosts": [
            {"name": host.host, "outcome": host.outcome.value, "error": _failure(host.failure)}
            for host in bad[:MOST_HOSTS]
        ],
        "more_hosts": max(0, len(bad) - MOST_HOSTS),
    }


def _failure(failure: Failure | None) -> dict[str, str] | None:
    if failure is None:
        return None
    return {
        "kind": failure.kind.value,
        "message": _one_line(failure.message),
        "now": _one_line(failure.now),
        "hint": _one_line(failure.hint),
    }


def _one_line(text: str) -> str:
    return shortened(" ".join(text.split()), LONGEST)
