"""What a rollout does next, by what is recorded of it."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from fleet.deploy.advance import Begin, End, Soak, Standing, advance, why_it_waits_in_vain
from fleet.inventory.rollouts import in_order, order_problems
from fleet.model import Failure, FailureKind, HostName, HostResult, Outcome
from fleet.plans import SoakOf
from tests.unit.builders import plan

KEPT, BACK, FAILED, DEFERRED, SKIPPED, UNCHANGED = (
    Outcome.KEPT, Outcome.ROLLED_BACK, Outcome.FAILED, Outcome.DEFERRED, Outcome.SKIPPED, Outcome.UNCHANGED
)  # fmt: skip


def results(**outcomes: Outcome) -> dict[HostName, HostResult]:
    return {HostName(name): HostResult(host=HostName(name), outcome=outcome) for name, outcome in outcomes.items()}


def standing(selected: str = "abcd", bad: int = 0, interrupted: str = "", **changes: Any) -> Standing:
    outcomes = {name: changes.pop(name) for name in list(changes) if isinstance(changes[name], Outcome)}
    known = results(**outcomes)
    return Standing(
        selected=frozenset(map(HostName, selected)), results=known, bad=bad, interrupted=interrupted, **changes
    )


WAVES = plan(("a",), ("b", "c"), ("d",))
SOAKING = dataclasses.replace(WAVES, soaks=(SoakOf(1, 1, 60.0), SoakOf(2, 3, 5.0)))


@pytest.mark.parametrize(
    ("known", "move"),
    [
        (standing(), Begin(1, (HostName("a"),))),
        (standing(a=KEPT), Begin(2, (HostName("b"), HostName("c")))),
        (standing(a=KEPT, b=KEPT), Begin(2, (HostName("c"),))),
        (standing(a=KEPT, b=KEPT, c=UNCHANGED), Begin(3, (HostName("d"),))),
        (standing(a=KEPT, b=KEPT, c=KEPT, d=KEPT), End()),
        (standing(wave=3), Begin(3, (HostName("d"),))),
    ],
)
def test_waves_go_one_after_another(known: Standing, move: object) -> None:
    assert advance(WAVES, known) == move


def test_nobody_begins_after_too_many_bad_ends_or_when_somebody_asks_for_the_end() -> None:
    assert advance(WAVES, standing(a=BACK, bad=1)) == End(
        "not begun: 1 of the hosts before it ended badly (max_failures)"
    )
    assert advance(WAVES, standing(a=KEPT, interrupted="not begun: ann")) == End("not begun: ann")
    allowed = dataclasses.replace(WAVES, max_failures=1)
    assert advance(allowed, standing(a=BACK, bad=1)) == Begin(2, (HostName("b"), HostName("c")))


@pytest.mark.parametrize("outcome", [DEFERRED, SKIPPED, FAILED])
def test_wave_of_which_nobody_took_part_ends_the_rollout(outcome: Outcome) -> None:
    assert advance(WAVES, standing(a=outcome)) == End("not begun: nobody of wave 1 took part (a)")
    assert advance(WAVES, standing(a=KEPT, b=outcome, c=KEPT)) == Begin(3, (HostName("d"),))
    assert advance(WAVES, standing(a=KEPT, b=KEPT, c=KEPT, d=outcome)) == End()


def test_hosts_that_the_plan_is_not_applied_to_are_not_waited_for() -> None:
    assert advance(WAVES, standing("bd", a=SKIPPED)) == Begin(2, (HostName("b"),))


def test_wave_soaks_before_the_next_one_and_once() -> None:
    assert advance(SOAKING, standing(a=KEPT)) == Soak(1, (HostName("a"),), 60.0)
    assert advance(SOAKING, standing(a=KEPT, soaked=frozenset({1}))) == Begin(2, (HostName("b"), HostName("c")))
    last = standing(a=KEPT, b=KEPT, c=UNCHANGED, d=KEPT, wave=3, soaked=frozenset({1}))
    assert advance(SOAKING, last) == Soak(3, (HostName("b"), HostName("d")), 5.0)
    assert advance(SOAKING, dataclasses.replace(last, soaked=frozenset({1, 3}))) == End()


def test_wave_in_which_nothing_was_changed_does_not_soak() -> None:
    assert advance(SOAKING, standing(a=UNCHANGED)) == Begin(2, (HostName("b"), HostName("c")))


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (KEPT, ""),
        (UNCHANGED, ""),
        (BACK, "not begun: a, which it comes after, ended rolled back"),
        (DEFERRED, "not begun: a, which it comes after, ended deferred"),
    ],
)
def test_host_begins_only_after_those_that_it_comes_after_have_ended_well(outcome: Outcome, says: str) -> None:
    ordered = dataclasses.replace(WAVES, after=((HostName("b"), (HostName("a"),)),))
    assert why_it_waits_in_vain(ordered, HostName("b"), results(a=outcome)) == says
    assert why_it_waits_in_vain(ordered, HostName("c"), results(a=outcome)) == ""


def test_host_that_was_kept_and_got_unwell_has_not_ended_well() -> None:
    unwell = HostResult(
        host=HostName("a"), outcome=KEPT, failure=Failure(kind=FailureKind.UNHEALTHY, message="check web: 503")
    )
    ordered = dataclasses.replace(WAVES, after=((HostName("b"), (HostName("a"),)),))
    assert why_it_waits_in_vain(ordered, HostName("b"), {HostName("a"): unwell}) != ""
    assert (unwell.is_good, unwell.counts_against_run) == (False, True)


def names(text: str) -> list[HostName]:
    return [HostName(name) for name in text]


def after(**order: str) -> dict[HostName, tuple[HostName, ...]]:
    return {HostName(name): tuple(names(order.get(name, ""))) for name in "abcd"}


@pytest.mark.parametrize(
    ("order", "groups"),
    [
        (after(), ["abcd"]),
        (after(a="b"), ["bcd", "a"]),
        (after(a="b", b="c", c="d"), ["d", "c", "b", "a"]),
        (after(a="bc", b="d"), ["cd", "b", "a"]),
        (after(a="x"), ["abcd"]),
    ],
)
def test_hosts_go_after_those_that_they_come_after(
    order: dict[HostName, tuple[HostName, ...]], groups: list[str]
) -> None:
    assert in_order(names("abcd"), order) == [names(group) for group in groups]


def test_long_order_is_no_deep_one() -> None:
    chain = [HostName(f"h{number}") for number in range(5000)]
    order = {name: (before,) for before, name in itertools.pairwise(chain)}
    assert in_order(chain[::-1], order) == [[name] for name in chain]


def test_order_that_makes_no_sense_is_told_with_its_hosts() -> None:
    assert order_problems(after(a="b", b="a"), ()) == [
        ("a", "leads in a circle: a -> b -> a"),
        ("b", "leads in a circle: b -> a -> b"),
    ]
    waves = (frozenset(names("a")), frozenset(names("b")))
    assert order_problems(after(a="b"), waves) == [("a", "b is in wave 2, and a goes before it in wave 1")]
    assert order_problems(after(a="c"), waves) == [("a", "c is in wave 3, and a goes before it in wave 1")]
    assert order_problems(after(b="a", c="b"), waves) == []
