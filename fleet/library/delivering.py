"""Late delivery: what hosts get that were away when they were deployed to."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet import nix
from fleet.deploy.options import Late, Options
from fleet.errors import CommandFailedError, StateError
from fleet.host.answers import State
from fleet.host.history import entries
from fleet.host.program import HostProgram, ask
from fleet.inventory.windows import opening
from fleet.library.plans import path_in
from fleet.library.signed_parts import UNSIGNED, plan_of
from fleet.machine import CONTACTS
from fleet.model import Closure, Derivation, FailureKind, Goal, Outcome, Verb
from fleet.state import Delivery
from fleet.state.threads import in_state
from fleet.steps.gates import what_forbids_delivery
from fleet.steps.preflight import preflight

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from fleet.deploy.journal import Journal
    from fleet.host.facts import HostFacts
    from fleet.inventory import Host
    from fleet.library.tools import Tools
    from fleet.machine import Command, Link, Machine, Output
    from fleet.model import HostName, HostResult, RunId
    from fleet.plans import Plan

ENDED = (Outcome.KEPT, Outcome.UNCHANGED, Outcome.ROLLED_BACK)
"""The outcomes after which nothing waits for the host any more."""
AWAY = (FailureKind.UNREACHABLE, FailureKind.WINDOW)
"""Why a host is deferred. It gets its system when that is over."""
ANSWER = 1.5
"""Seconds that a host has to take a TCP connection. Linux tries at once, after 1 s and after 3 s (RFC 6298), so that a
short attempt, made again soon, notices sooner who is back."""


async def note(
    tools: Tools,
    journal: Journal,
    plan: Plan,
    *,
    has_failed: bool,
    is_whole: bool = True,
    must_root: bool = True,
    is_late: bool = False,
) -> str:
    """Remember what the deferred hosts of a run should get when they are back, with roots in the local store.

    Forget what hosts should have got before that have ended now, or that a rollback was for. A run that `has_failed`
    has nothing to bring anybody: what it had may be bad. `is_whole` says that the plan was applied to all of its hosts.
    `is_late` says that it brings what was waiting: of a signed part that has become stale there is no other one.
    What cannot be rooted is not wanted, unless it need not be (`must_root=False`): another machine may bring it.
    Return what could not be remembered; nothing if all could.
    """
    if plan.verb not in (Verb.DEPLOY, Verb.ROLLBACK) or plan.goal not in (Goal.SWITCH, Goal.BOOT):
        return ""
    state, results = tools.state, journal.results
    over = [name for name, ended in results.items() if plan.verb is Verb.ROLLBACK or _is_over(ended)]
    if is_late:
        over += [name for name, ended in results.items() if tools.inventory.hosts[name].gate and _is_stale(ended)]
    away = {} if has_failed or plan.verb is Verb.ROLLBACK else _away(plan, results, is_whole=is_whole)
    troubles = []
    try:
        if over:
            await in_state(state.no_longer_want, over, before=journal.run)
        wanted = [_delivery(tools, journal.run, plan, late, name) for name, late in away.items()]
        for delivery in wanted:
            try:
                await _root(tools, delivery)
            except StateError as error:  # the others should get theirs
                if must_root:
                    troubles.append(f"{delivery.host}: {error.message}")
                    continue
            await in_state(state.want, [delivery])
    except StateError as error:
        troubles.append(error.message)
    return f"what waits for hosts that are away was not remembered: {'; '.join(troubles)}" if troubles else ""


def _is_over(ended: HostResult) -> bool:
    """Whether nothing waits for the host any more: it has ended, or what it should get was found bad there."""
    is_bad = ended.failure is not None and ended.failure.kind is FailureKind.QUARANTINED
    return ended.outcome in ENDED or is_bad


def _is_stale(ended: HostResult) -> bool:
    return ended.failure is not None and ended.failure.kind is FailureKind.STALE


def _away(plan: Plan, results: Mapping[HostName, HostResult], *, is_whole: bool) -> dict[HostName, Late]:
    """Return what the deferred hosts should get, where that is known."""
    found = {
        left.host: Late(Closure(left.closure), Derivation(left.derivation) if left.derivation else None)
        for left in plan.left_out
        if left.closure and is_whole and left.kind in AWAY
    }
    parts = {name: part for name, part in plan.parts.items() if name in results and _is_away(results[name])}
    return found | {name: Late(part.closure, part.derivation) for name, part in parts.items()}


def _is_away(result: HostResult) -> bool:
    kind = result.failure.kind if result.failure is not None else None
    return result.outcome is Outcome.DEFERRED and kind in AWAY


def _delivery(tools: Tools, run: RunId, plan: Plan, late: Late, name: HostName) -> Delivery:
    now, host = time.time(), tools.inventory.hosts[name]
    expires = now + host.deliver_within
    if host.gate and name in plan.parts:  # nobody takes it later
        expires = min(expires, plan.expires)
    return Delivery(
        host=name,
        closure=late.closure,
        derivation=late.derivation,
        run=run,
        by=tools.by,
        intent=plan.intent,
        made=now,
        expires=expires,
        first=now,
        missed=1,
    )


async def _root(tools: Tools, delivery: Delivery) -> None:
    """Keep what the host should get from the garbage collector: the closure, or what it is built from."""
    path: str = delivery.closure
    if delivery.derivation is not None:
        path = path_in((await _ran(tools.here, nix.refer_to([delivery.derivation]))).stdout)
    root = tools.state.delivery_root(delivery.host)
    try:
        await asyncio.to_thread(root.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"{root.parent}: cannot be made: {error.strerror}") from error
    await _ran(tools.here, nix.realise([path], root=root))


async def _ran(here: Machine, command: Command) -> Output:
    try:
        ran = await here.run(command)
    except CommandFailedError as error:
        raise StateError(f"what waits for a host cannot be rooted: {error.message}", said=error.said) from error
    if ran.status != 0:
        raise StateError("what waits for a host cannot be rooted", said=ran.stderr.splitlines()[-5:])
    return ran


def options_for(deliveries: Collection[Delivery]) -> Options:
    """Return the options of a plan that delivers these."""
    intents = {delivery.intent for delivery in deliveries if delivery.intent}
    return Options(
        keep_going=True,
        late={delivery.host: Late(delivery.closure, delivery.derivation) for delivery in deliveries},
        intent=intents.pop() if len(intents) == 1 else "late delivery",
    )


@dataclass(frozen=True)
class Back:
    """A host that answers, and why it does not get its delivery now; nothing if it may."""

    delivery: Delivery
    why_not: str


async def those_back(tools: Tools, deliveries: Sequence[Delivery]) -> dict[HostName, Back]:
    """Return the hosts that are back, of those that something waits for.

    A host that a later run has changed, from any machine, has been overtaken: nothing waits for it any more. One at
    which nobody answers within `ANSWER` is away, unless fleet.toml says how long it may take.
    """
    places = asyncio.Semaphore(CONTACTS)

    async def find(delivery: Delivery) -> Back | None:
        async with places:
            return await _look_for(tools, delivery)

    known = [delivery for delivery in deliveries if delivery.host in tools.inventory.hosts]
    found = await asyncio.gather(*map(find, known))
    return {back.delivery.host: back for back in found if back is not None}


async def _look_for(tools: Tools, delivery: Delivery) -> Back | None:
    """Return the host if it is back. What a later run has overtaken is forgotten."""
    host = tools.inventory.hosts[delivery.host]
    link = tools.logins.link(host)
    try:
        async with asyncio.timeout(host.connect_timeout or ANSWER) as limit:
            await link.open(on_answer=lambda: limit.reschedule(None))
        facts = await preflight(link, host)
        if await _is_overtaken(link, host, facts, delivery):
            await in_state(tools.state.no_longer_want, [delivery.host], before=delivery.run)
            return None
        why_not = await what_forbids_delivery(link, host)
        if opening(host.window, time.time()) is not None:
            why_not = "it is outside its window"
        if host.gate and await plan_of(tools.state, delivery) is None:
            why_not = f"{UNSIGNED}: plan, sign and approve"
        return Back(delivery, why_not)
    except Exception:  # it is away, or cannot be asked; a bug at one host keeps no other one waiting
        return None
    finally:
        await link.close()


async def _is_overtaken(link: Link, host: Host, facts: HostFacts, delivery: Delivery) -> bool:
    """Whether a later run, from whatever machine, has given the host another system. Its id begins with its time."""
    if facts.last is None or facts.last.run <= delivery.run:
        return False
    past = entries(await ask(link, host, HostProgram().call("history", "all")))
    return any(one.run > delivery.run and one.state is State.COMMITTED for one in past)
