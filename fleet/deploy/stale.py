"""Whether a host is still as it was when a plan was made, and what happened to it since."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.deploy import result
from fleet.host.answers import State
from fleet.host.program import HostProgram, ask, stale
from fleet.steps.preflight import preflight

if TYPE_CHECKING:
    from fleet.errors import StaleError
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import HostResult
    from fleet.plans import Part


async def require_current(machine: Machine, host: Host, part: Part, facts: HostFacts) -> None:
    """Raises `StaleError`, with what happened since, where the host is not as it was when the part was planned.

    The host itself looks again when it begins: this spares a push that would be for nothing.
    """
    is_current = (facts.serial, facts.link, facts.running) == (part.serial, part.link, part.expected)
    if not is_current and not _may_begin_again(part, facts):
        raise await _what_happened(machine, host, part)


def _may_begin_again(part: Part, facts: HostFacts) -> bool:
    """Whether the host's last transaction was of this very part, and went back because nobody was there."""
    last = facts.last
    if last is None or last.part != part.digest or last.serial != facts.serial or facts.running != part.expected:
        return False
    return last.state is State.REVERTED and last.blame == "silent"


def outcome_of_last(part: Part, facts: HostFacts) -> HostResult | None:
    """How the host ended, where its last transaction was of this very part, and nobody has undone it since."""
    last = facts.last
    if last is None or last.part != part.digest or last.serial != facts.serial or _may_begin_again(part, facts):
        return None
    return result.of_last(part, facts, last) if _is_as_left(part, facts, last.state) else None


async def answer_to_part(machine: Machine, host: Host, part: Part) -> HostResult:
    """How the host ended by this part before. Raises `StaleError` where somebody has undone that since."""
    ended = outcome_of_last(part, await preflight(machine, host))
    if ended is None:
        raise await _what_happened(machine, host, part)
    return ended


async def _what_happened(machine: Machine, host: Host, part: Part) -> StaleError:
    return stale(host, await ask(machine, host, HostProgram().call("history", part.serial)))


def _is_as_left(part: Part, facts: HostFacts, state: State) -> bool:
    """Whether the host still runs what a transaction of the part has left there. A switch by hand opens none."""
    match state:
        case State.COMMITTED | State.TESTED:
            return facts.runs(part.closure)
        case State.REVERTED:
            return facts.running == part.expected
    return True
