"""Late delivery: what hosts get that were away when they were deployed to."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet import nix
from fleet.deploy.options import Late, Options
from fleet.errors import StateError
from fleet.inventory.windows import opening
from fleet.library.plans import path_in
from fleet.library.reading import ask_all, ignore
from fleet.model import Closure, Derivation, FailureKind, Goal, Outcome, Verb
from fleet.state import Delivery
from fleet.steps.gates import what_forbids_delivery
from fleet.steps.preflight import preflight

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

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
LATE = 2.0
"""Seconds that hosts at which nobody answers get, when the others have been asked."""


async def note(tools: Tools, run: RunId, plan: Plan, results: Mapping[HostName, HostResult]) -> None:
    """Remember what the deferred hosts of a run should get when they are back, with roots in the local store.

    Forget what hosts should have got before that have ended now. Raise `StateError` if that fails.
    """
    if plan.verb not in (Verb.DEPLOY, Verb.ROLLBACK) or plan.goal not in (Goal.SWITCH, Goal.BOOT):
        return
    state = tools.state
    ended = [name for name, result in results.items() if result.outcome in ENDED]
    if ended:
        await asyncio.to_thread(state.no_longer_want, ended, before=run)
    wanted = [_delivery(tools, run, plan, late, name) for name, late in _away(plan, results).items()]
    for delivery in wanted:
        await _root(tools, delivery)
    if wanted:
        await asyncio.to_thread(state.want, wanted)


def _away(plan: Plan, results: Mapping[HostName, HostResult]) -> dict[HostName, Late]:
    """Return what the deferred hosts should get, where that is known."""
    found = {
        left.host: Late(Closure(left.closure), Derivation(left.derivation) if left.derivation else None)
        for left in plan.left_out
        if left.closure
    }
    found |= {name: Late(part.closure, part.derivation) for name, part in plan.parts.items()}
    return {name: late for name, late in found.items() if name in results and _is_away(results[name])}


def _is_away(result: HostResult) -> bool:
    kind = result.failure.kind if result.failure is not None else None
    return result.outcome is Outcome.DEFERRED and kind in AWAY


def _delivery(tools: Tools, run: RunId, plan: Plan, late: Late, name: HostName) -> Delivery:
    now = time.time()
    return Delivery(
        host=name,
        closure=late.closure,
        derivation=late.derivation,
        run=run,
        by=tools.by,
        intent=plan.intent,
        made=now,
        expires=now + tools.inventory.hosts[name].deliver_within,
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
    ran = await here.run(command)
    if ran.status != 0:
        raise StateError("what waits for a host cannot be rooted", said=ran.stderr.splitlines()[-5:])
    return ran


def options_for(deliveries: Collection[Delivery]) -> Options:
    """Return the options of a plan that delivers these."""
    intents = {delivery.intent for delivery in deliveries if delivery.intent}
    return Options(
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

    A host that another run has changed since, from any machine, has been overtaken: nothing waits for it any more.
    """
    due = {delivery.host: delivery for delivery in deliveries if delivery.host in tools.inventory.hosts}

    async def look(host: Host, link: Link) -> tuple[HostFacts, str]:
        facts = await preflight(link, host)
        return facts, await what_forbids_delivery(link, host)

    hosts = [tools.inventory.hosts[name] for name in due]
    answers = await ask_all(tools.logins, hosts, look, on_wait=ignore, late=LATE)
    back, overtaken = {}, []
    for name, answer in answers.items():
        if not isinstance(answer, tuple):
            continue
        facts, why_not = answer
        if facts.last is not None and facts.last.run > due[name].run and facts.last.state == "committed":
            overtaken.append(name)
            continue
        if opening(tools.inventory.hosts[name].window, time.time()) is not None:
            why_not = "it is outside its window"
        back[name] = Back(due[name], why_not)
    if overtaken:
        with contextlib.suppress(StateError):
            await asyncio.to_thread(
                tools.state.no_longer_want, overtaken, before=max(due[name].run for name in overtaken)
            )
    return back
