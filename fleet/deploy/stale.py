"""Find out whether a host is still as it was when a plan was made, and what happened to it since."""

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
    """Raise `StaleError`, with what happened since, if the host is not as it was when the part was planned.

    The host itself looks again when it begins. To look here too spares a push that would be for nothing.
    """
    is_current = (facts.serial, facts.link, facts.running) == (part.serial, part.link, part.expected)
    if not is_current and not _may_begin_again(part, facts):
        raise await _stale_error(machine, host, part)


def _may_begin_again(part: Part, facts: HostFacts) -> bool:
    """Return whether the host's last transaction was of this very part, and went back because nobody was there."""
    last = facts.last
    if last is None or last.part != part.digest or last.serial != facts.serial or facts.running != part.expected:
        return False
    return last.state is State.REVERTED and last.blame == "silent"


def outcome_of_last(part: Part, facts: HostFacts) -> HostResult | None:
    """Return how the host ended if its last transaction was of this very part and nobody has undone it since.

    Return None otherwise, and if the part may begin again.
    """
    last = facts.last
    if last is None or last.part != part.digest or last.serial != facts.serial or _may_begin_again(part, facts):
        return None
    return result.of_last(part, facts, last) if _runs_what_was_left(part, facts, last.state) else None


async def answer_to_part(machine: Machine, host: Host, part: Part) -> HostResult:
    """Ask the host how it ended when this part was applied before, and return that.

    Raise `StaleError` if somebody has undone it since.
    """
    ended = outcome_of_last(part, await preflight(machine, host))
    if ended is None:
        raise await _stale_error(machine, host, part)
    return ended


async def _stale_error(machine: Machine, host: Host, part: Part) -> StaleError:
    """Ask the host what happened since the part was planned, and return the error that says it."""
    return stale(host, await ask(machine, host, HostProgram().call("history", part.serial)))


def _runs_what_was_left(part: Part, facts: HostFacts, state: State) -> bool:
    """Return whether the host still runs what a transaction of the part, which ended in `state`, has left there.

    The newest transaction alone does not tell: a switch by hand opens none.
    """
    match state:
        case State.COMMITTED | State.TESTED:
            return facts.runs(part.closure)
        case State.REVERTED:
            return facts.running == part.expected
    return True
