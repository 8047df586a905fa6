"""Let a rollout that workers carry out go on: a short function over its rows, which any of them may call."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fleet.deploy import result, rollout_results
from fleet.deploy.advance import Begin, End, Soak, Standing, advance, why_none_may_begin
from fleet.events import RolloutAsked, SoakFinished, SoakStarted, WaveFinished, WaveStarted
from fleet.model import HostResult
from fleet.state import Asked
from fleet.state.shares import RolloutState

if TYPE_CHECKING:
    from fleet.plans import Plan
    from fleet.state.hand import Hand


def places_of(plan: Plan) -> int:
    """Return how many hosts of a plan may be under way at a time, whichever workers have them."""
    return min(plan.at_once, plan.push_at_once or plan.at_once)


def go_on(hand: Hand, plan: Plan) -> None:
    """Let workers begin with what may begin now, and note how far the rollout has come.

    It takes time for the wave that is under way only, and hardly any while hosts of it are.
    """
    why = _heard(hand)
    under_way = hand.under_way()
    is_paused = hand.rollout.asked == Asked.PAUSE and not why
    if under_way:
        if not is_paused and not why_none_may_begin(plan, hand.rollout.bad, why) and not hand.rollout.soaking:
            _fill(hand, hand.rollout.places - under_way)
        return
    _close(hand, plan)
    if is_paused:
        return
    match advance(plan, _standing(hand, plan, why)):
        case Begin(wave, hosts):
            if wave != hand.rollout.wave or hand.rollout.is_between:
                hand.tell(WaveStarted(wave=wave, waves=len(plan.waves), hosts=hosts))
                hand.note(wave=wave, is_between=False)
            _fill(hand, hand.rollout.places)
        case Soak(wave, hosts, seconds):
            hand.tell(SoakStarted(wave=wave, hosts=hosts, seconds=seconds))
            hand.note(wave=wave, soaking=True)
            hand.soak(hosts)
        case End(reason):
            _end(hand, reason)


def _heard(hand: Hand) -> str:
    """Tell what is asked of the rollout, if that is new. Return why no further host may begin; nothing if one may."""
    request = hand.request
    asked = request.asked.value if request is not None else ""
    if asked != hand.rollout.asked:
        who = request.by if request is not None else ""
        hand.tell(RolloutAsked(asked=asked or "continue", who=who))
        hand.note(asked=asked)
    if request is not None and request.asked is Asked.ABORT:
        return hand.rollout.why or f"not begun: {request.by} has aborted the rollout"
    return hand.rollout.why


def _fill(hand: Hand, places: int) -> None:
    """Let the next hosts of the wave begin, as many as there are places."""
    if places > 0 and (those := hand.waiting(hand.rollout.wave, places)):
        hand.queue(those)


def _close(hand: Hand, plan: Plan) -> None:
    """Tell the end of the wave, or of its soak, if nobody of it is left."""
    wave = hand.rollout.wave
    if hand.rollout.soaking:
        unwell = {name: why for name, why in hand.soaked().items() if why}
        hand.close_soak()
        for name, why_unwell in unwell.items():
            if (kept := hand.result_of(name)) is not None:
                hand.worsen(rollout_results.unwell(kept, why_unwell))
        hand.tell(SoakFinished(wave=wave, unwell=unwell))
        hand.note(soaking=False, soaked=hand.rollout.soaked | {wave})
    elif wave and not hand.rollout.is_between and not hand.waiting(wave, 1):
        ended = [outcome for outcome in hand.outcomes(wave, wave).values() if outcome is not None]
        told = dict(Counter(outcome.value for outcome in ended))
        hand.tell(WaveFinished(wave=wave, waves=len(plan.waves), outcomes=told))
        hand.note(is_between=True)


def _standing(hand: Hand, plan: Plan, why: str) -> Standing:
    row = hand.rollout
    wave = max(1, row.wave)
    since = min([soak.first for soak in plan.soaks if soak.last >= wave], default=wave)
    known = hand.outcomes(min(since, wave))
    return Standing(
        wave=wave,
        soaked=row.soaked,
        selected=frozenset(known),
        results={name: HostResult(host=name, outcome=ended) for name, ended in known.items() if ended is not None},
        bad=row.bad,
        interrupted=why,
    )


def _end(hand: Hand, reason: str) -> None:
    """Give everybody who has not begun a result, and let somebody tell the end of the run."""
    hint = f"fleet rollout continue {hand.run} goes on with the run" if hand.rollout.why else ""
    for share in hand.waiting():
        hand.skip(result.skipped(share.host, reason or "interrupted before it began", hint))
    hand.note(state=RolloutState.ENDING)
