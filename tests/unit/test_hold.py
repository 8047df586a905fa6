"""A proof that another process takes over, or that this one sleeps through."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fleet.deploy.hooked import ELSEWHERE
from fleet.model import HostName, Outcome
from fleet.steps.verdict import Condemned, Decided, Proven
from tests.fakes import Answer, FakeTime, Says, asked, asks, in_no_time, runs, said
from tests.unit.builders import OLD, RUN
from tests.unit.test_prove import CALM, LOOKS, NEW, YES, Case, later, now, turned_away
from tests.unit.test_taking_up import COMMITTED, OPEN
from tests.unit.test_taking_up import World as Resumed
from tests.unit.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.machine import Command

DISPLACED = said(state="switched", running=NEW, displaced="yes", accepted="no")


@in_no_time
async def test_who_was_displaced_has_no_verdict_any_more() -> None:
    case = Case(look=later((0, CALM), (2, DISPLACED)))
    verdict = await case.prove()
    assert isinstance(verdict, Decided)
    assert (verdict.view.displaced, case.hold.is_lost, case.words) == (True, True, [])
    assert case.took < 4


@in_no_time
async def test_who_is_displaced_at_the_very_last_look_or_word_has_no_verdict() -> None:
    for looks, word, words_left in (
        ([*[CALM] * LOOKS, DISPLACED], None, []),
        ([CALM], DISPLACED, ["confirm"]),
    ):
        case = Case(look=looks, word=word)
        assert isinstance(await case.prove(), Decided)
        assert (case.words, case.hold.is_lost) == (words_left, True)


@in_no_time
async def test_who_is_displaced_has_condemned_nobody() -> None:
    bad = said(state="switched", running=NEW, bad="a.service has failed")
    case = Case(look=bad, word=DISPLACED)
    assert isinstance(await case.prove(), Decided)
    assert case.words == ["abandon found a.service has failed"]


@in_no_time
async def test_who_is_displaced_while_sshd_is_busy_has_no_verdict() -> None:
    case = Case(look=later((0, CALM), (10, DISPLACED)))
    case.link.connecting = [turned_away()] * 1000
    assert isinstance(await case.prove(), Decided)
    assert case.words == []


@in_no_time
async def test_each_look_and_word_has_the_number_of_whoever_proves() -> None:
    case = Case(checks={"ok": YES})
    case.hold.number = "7"
    await case.prove()
    assert {words[1:] for words in asked("look", case.link.ran)} == {("7",)}
    assert {words[-1] for words in asked("word", case.link.ran)} == {"7"}


class Sleeper:
    """A machine under this process that falls asleep once, some seconds after it began, while its clock goes on."""

    def __init__(self, at: float, seconds: float) -> None:
        self.began, self.at, self.seconds = now(), at, seconds

    def wake(self) -> None:
        """Sleep, if it is time."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, FakeTime)
        if self.seconds and now() - self.began >= self.at:
            loop.now, self.seconds = loop.now + self.seconds, 0.0


@pytest.mark.parametrize(("pause", "least"), [(9.0, 9.0), (11.0, 3.0 + 11.0 + 5.0), (50.0, 3.0 + 50.0 + 5.0)])
def test_what_was_well_before_a_pause_of_more_than_10_seconds_counts_for_nothing(pause: float, least: float) -> None:
    @in_no_time
    async def test() -> None:
        sleeper = Sleeper(3.0, pause)

        def look(_: Command) -> Answer:
            sleeper.wake()
            return CALM

        case = Case(look=look, checks={"ok": YES})
        assert isinstance(await case.prove(), Proven)
        assert least <= case.took < least + 3.5
        assert case.words == ["confirm"]

    test()


@in_no_time
async def test_bad_unit_after_a_pause_condemns_at_once() -> None:
    sleeper, bad = Sleeper(3.0, 20.0), said(state="switched", running=NEW, bad="a.service has failed")

    def look(_: Command) -> Answer:
        sleeper.wake()
        return CALM if sleeper.seconds else bad

    case = Case(look=look)
    assert await case.prove() == Condemned("a.service has failed", found=True)


@in_no_time
async def test_pause_before_the_very_last_look_begins_the_proof_anew() -> None:
    looks = 0

    def look(_: Command) -> Answer:
        nonlocal looks
        looks += 1
        if looks == LOOKS + 1:
            Sleeper(0.0, 20.0).wake()
        return CALM

    case = Case(look=look, checks={"ok": YES})
    assert isinstance(await case.prove(), Proven)
    assert case.took >= 5 + 20 + 5


@in_no_time
async def test_host_that_wants_a_younger_look_is_proven_anew() -> None:
    """This process slept between the look and the word, and the host has noticed."""
    late = said(state="switched", running=NEW, accepted="no")
    case = Case(word=[late, said(state="committing", running=NEW, accepted="yes")])
    assert isinstance(await case.prove(), Proven)
    assert case.words == ["confirm", "confirm"]
    assert case.took >= 10


@in_no_time
async def test_host_that_is_looked_at_with_long_pauses_only_is_not_proven_for_ever() -> None:
    case = Case(look=Says(stdout=CALM.stdout.encode(), seconds=12.0), settle="1s")
    verdict = await case.prove()
    assert verdict == Condemned("nothing was well for long enough without a pause", found=False)
    assert 180 < case.took < 200


# --- whole runs ------------------------------------------------------------------------------------------------

HOOK = "\n[[defaults.hooks]]\nname = 'back'\nwhen = 'after_commit'\ncommand = 'back'\non = 'controller'\n"


async def test_who_takes_a_run_up_proves_it_with_the_number_that_the_host_gives(tmp_path: Path) -> None:
    world = Resumed(tmp_path, "a")
    assert await world.resume() == 0
    (link,) = world.links.values()
    assert asked("attach", link.ran) == [(RUN,)]
    assert {words[1:] for words in asked("look", link.ran)} == {("2",)}
    assert [words[-1] for words in asked("word", link.ran)] == ["2"]


@pytest.mark.parametrize(
    "open_", [{"open_run": ""}, {"open_run": "20991120T042211-000000"}], ids=["it has ended", "another run is open"]
)
async def test_who_takes_up_what_is_not_open_displaces_nobody(tmp_path: Path, open_: dict[str, str]) -> None:
    world = Resumed(tmp_path, "a")
    world.on("a", "facts", said(**OPEN | open_))
    world.on("a", "watch", COMMITTED)
    await world.resume()
    assert asked("attach", world.links[HostName("a")].ran) == []


async def test_host_that_gives_no_number_is_proven_without_one(tmp_path: Path) -> None:
    world = Resumed(tmp_path, "a")
    world.on("a", "attach", said(state="switched", running=NEW))  # its /run is full
    assert await world.resume() == 0
    assert {words[1:] for words in asked("look", world.links[HostName("a")].ran)} == {("",)}


async def test_who_was_displaced_tells_how_it_ends_and_runs_no_hooks(tmp_path: Path) -> None:
    for displaced, hooks in ((DISPLACED, 0), (CALM, 1)):
        world = World(tmp_path / str(hooks), "a", more=HOOK)
        world.here_too((runs("env"), said()))
        new = str(world.closure)
        answer = said(state="switched", running=new, **({"displaced": "yes"} if displaced is DISPLACED else {}))
        world.on("a", (asks("look"), answer))
        assert await world.execute() == 0
        (end,) = world.end.hosts
        assert (end.outcome, ELSEWHERE in end.notes) == (Outcome.KEPT, not hooks)
        assert len([command for command in world.here.ran if command.argv[0] == "env"]) == hooks
        assert asked("word", world.links[HostName("a")].ran) == [] or hooks


async def test_who_was_displaced_leaves_the_proof_of_the_way_back_to_whoever_proves(tmp_path: Path) -> None:
    logins = {}
    for displaced in ({}, {"displaced": "yes"}):
        world = World(tmp_path / str(len(displaced)), "a")
        back = said(state="reverted", running=OLD, blame="found", reason="check web: 503")
        new = str(world.closure)
        world.on(
            "a",
            (asks("look"), said(state="switched", running=new, bad="a.service has failed", **displaced)),
            (asks("watch"), [said(state="switched", running=new, status=0), back]),
        )
        assert await world.execute() == 1
        assert world.outcomes == {"a": Outcome.ROLLED_BACK}
        logins[len(displaced)] = world.logins.connected
    assert logins[1] == logins[0] - 1
