"""A host that keeps its new system, watched while its wave soaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.inventory import Host
from fleet.steps.soak import Soaker
from tests.fakes import Answer, Answers, Events, FakeLink, asks, in_no_time, runs, said
from tests.unit.builders import NEW, OLD
from tests.unit.test_prove import LOST, NO, YES, later, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.machine import Command

FACTS = {"machine": "x86_64", "nix": "nix (Nix) 2.18", "running": NEW, "profile": NEW, "boot_default": NEW}


class Soaking:
    """A host that soaks for 60 seconds, with these checks."""

    def __init__(self, facts: Answers | None = None, *, known: tuple[str, ...] | None = (), **checks: Answers) -> None:
        declared = [{"name": name, "command": name, "within": "20s"} for name in checks]
        self.host = Host.model_validate({"name": "web-1", "checks": declared, "confirm_timeout": "30s"})
        table = [(runs("sh", "-c", name), answers) for name, answers in checks.items()]
        self.link = FakeLink(self.host, (asks("facts"), facts or said(**FACTS)), *table)
        self.known = known

    async def soak(self) -> tuple[str, float]:
        """What is wrong in the end, and after how many seconds that is known."""
        soaker = Soaker(
            link=self.link,
            here=self.link,
            emit=Events(),
            closure=NEW,
            checks=self.host.checks,
            failed_before=self.known,
        )
        began = now()
        wrong = await soaker.soak(60.0)
        return wrong, now() - began


def failing(*units: str, since: float, until: float = 1e9) -> Callable[[Command], Answer]:
    """Units that fail between these times."""

    def facts(_: Command) -> Answer:
        return said(**FACTS, failed_unit=list(units)) if since <= now() < until else said(**FACTS)

    return facts


@in_no_time
async def test_host_that_stays_well_is_watched_for_as_long_as_it_has_to_be() -> None:
    wrong, took = await Soaking(ok=YES).soak()
    assert (wrong, 60 <= took < 63) == ("", True)


@in_no_time
async def test_check_that_fails_for_longer_than_it_may_is_told() -> None:
    wrong, took = await Soaking(ok=later((0, YES), (10, NO))).soak()
    assert (wrong.startswith("check ok: "), 30 <= took < 33) == (True, True)


@in_no_time
async def test_check_that_fails_in_the_end_is_watched_on() -> None:
    assert (await Soaking(ok=later((0, YES), (55, NO))).soak())[0].startswith("check ok: ")
    wrong, took = await Soaking(ok=later((0, YES), (115, NO), (130, YES))).soak()
    assert (wrong, took < 80) == ("", True)


@in_no_time
async def test_check_that_never_passes_is_told_though_the_time_is_over() -> None:
    assert (await Soaking(ok=NO).soak())[0].startswith("check ok: ")


@in_no_time
async def test_unit_that_fails_at_two_looks_is_told_and_one_that_failed_before_is_not() -> None:
    assert (await Soaking(failing("x.service", since=20)).soak())[0] == "x.service has failed"
    assert (await Soaking(failing("x.service", since=0), known=("x.service",)).soak())[0] == ""
    assert (await Soaking(failing("x.service", since=0), known=None).soak())[0] == ""
    assert (await Soaking(failing("x.service", since=0, until=now() + 5)).soak())[0] == ""


@in_no_time
async def test_unit_that_fails_at_the_last_look_is_looked_at_again() -> None:
    assert (await Soaking(failing("x.service", since=now() + 59)).soak())[0] == "x.service has failed"


@in_no_time
async def test_system_that_somebody_has_replaced_is_not_watched() -> None:
    facts = said(**{**FACTS, "running": OLD})
    assert (await Soaking(facts).soak())[0] == f"{OLD} runs instead of what was kept"


@pytest.mark.parametrize(
    ("since", "until", "is_well"), [(10, 25, True), (58, 70, True), (10, 200, False), (55, 200, False)]
)
def test_host_that_cannot_be_asked_for_a_while_is_waited_for(since: float, until: float, *, is_well: bool) -> None:
    @in_no_time
    async def soak() -> None:
        soaking, began = Soaking(), now()

        def facts(_: Command) -> Answer:
            soaking.link.is_lost = since <= now() - began < until
            return LOST if soaking.link.is_lost else said(**FACTS)

        soaking.link.table = [(asks("facts"), facts)]
        fresh = soaking.link.fresh

        def again() -> object:
            soaking.link.is_lost = since <= now() - began < until
            return fresh()

        soaking.link.fresh = again  # type: ignore[method-assign,assignment]
        wrong, _ = await soaking.soak()
        assert (wrong == "") is is_well, wrong
        assert is_well or wrong.startswith("cannot be asked any more: ")

    soak()
