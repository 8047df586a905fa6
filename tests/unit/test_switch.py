"""Asking a host to switch, and following what it does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fleet.errors import (
    AuthenticationError,
    CommandFailedError,
    HostKeyError,
    LockedError,
    UnfitError,
    UnreachableError,
)
from fleet.events import HostSwitched, OutputLine, PhaseStarted
from fleet.host import answers
from fleet.host.program import HostProgram
from fleet.model import Goal, Phase
from fleet.steps.switch import DOWN_ALLOWANCE, GOING_BACK, RETRY, Follower, OverdueError, begin
from fleet.steps.verdict import Proof, Proven
from tests.fakes import Answers, Events, FakeMachine, Says, asked, asks, in_no_time, said
from tests.unit import builders
from tests.unit.builders import NEW, OLD, RUN

if TYPE_CHECKING:
    from fleet.host.answers import View
    from fleet.machine import Output

ORDER = builders.order()
HOST = builders.host()
PROGRAM = HostProgram("/nix/store/p/fleet-host")
LOST = UnreachableError(HOST.name, "connection lost")


def follower(seen: Answers, goal: Goal = Goal.SWITCH) -> tuple[Follower, FakeMachine, Events]:
    machine, events = FakeMachine((asks("watch"), seen)), Events()
    job = builders.job(HOST, goal=goal)
    return Follower(machine=machine, program=PROGRAM, run=RUN, job=job, emit=events), machine, events


def proof(*, heard: float, answer: View | None = None) -> Proof:
    """A proof whose last look was then, and whose word had that answer."""
    return Proof(verdict=Proven(1.0), heard=heard, lost="", answers=(), answer=answer)


@in_no_time
async def test_host_is_asked_once() -> None:
    machine = FakeMachine((asks("begin"), said(begun=RUN, state="switching")))
    await begin(machine, HOST, PROGRAM, ORDER)
    assert [command.stdin for command in machine.ran] == [ORDER.text().encode()]


@in_no_time
async def test_a_program_that_says_nothing_is_not_what_was_pushed() -> None:
    machine = FakeMachine((asks("begin"), said()))
    with pytest.raises(UnfitError, match="not what was pushed"):
        await begin(machine, HOST, PROGRAM, ORDER)


@pytest.mark.parametrize("lost", [LOST, CommandFailedError(HOST.name, "did not end")])
def test_order_is_told_again_when_its_answer_was_lost(lost: Exception) -> None:
    @in_no_time
    async def test() -> None:
        machine = FakeMachine((asks("begin"), [lost, said(begun=RUN, state="switching")]))
        await begin(machine, HOST, PROGRAM, ORDER)
        assert [command.stdin for command in machine.ran] == [ORDER.text().encode()] * 2

    test()


@pytest.mark.parametrize("refused", [AuthenticationError(HOST.name, "refused"), HostKeyError(HOST.name, "other key")])
def test_host_that_lets_nobody_in_after_its_answer_was_lost_may_have_begun(refused: Exception) -> None:
    """A new system's sshd may take the first answer along and let nobody in."""

    @in_no_time
    async def test() -> None:
        machine = FakeMachine((asks("begin"), [LOST, refused]))
        with pytest.raises(UnreachableError, match="connection lost"):
            await begin(machine, HOST, PROGRAM, ORDER)
        with pytest.raises(type(refused)):  # before anything was sent: nothing has begun
            await begin(FakeMachine((asks("begin"), refused)), HOST, PROGRAM, ORDER)

    test()


@in_no_time
async def test_refusal_is_not_asked_again() -> None:
    machine = FakeMachine((asks("begin"), said(refused="locked", message="taken")))
    with pytest.raises(LockedError):
        await begin(machine, HOST, PROGRAM, ORDER)
    assert len(machine.ran) == 1


@in_no_time
async def test_activation_is_followed_to_its_end_and_told() -> None:
    follow, machine, events = follower(
        [
            said(state="switching", running=OLD, line=["one", "\x1b[31mtwo"], cursor="c1"),
            said(state="switching", running=OLD, cursor=""),
            said(state="switched", running=NEW, status=4, line="three", cursor="c2"),
        ]
    )
    followed = await follow.follow_activation()
    assert (followed.view.state, followed.view.status, followed.said) == ("switched", 4, ("one", "two", "three"))
    assert asked("watch", machine.ran) == [(RUN, "switching", ""), (RUN, "switching", "c1"), (RUN, "switching", "c1")]
    assert [event.text for event in events.of(OutputLine)] == ["one", "two", "three"]
    assert [event.status for event in events.of(HostSwitched)] == [4]
    assert [event.phase for event in events.of(PhaseStarted)] == [Phase.PROVE]


@in_no_time
async def test_what_the_host_showed_when_it_began_is_not_asked_for_again() -> None:
    machine = FakeMachine(
        (asks("begin"), said(begun=RUN, state="switched", running=NEW, status=0, line="one", cursor="c1"))
    )
    begun = await begin(machine, HOST, PROGRAM, ORDER)
    follow, machine, events = follower([said(state="committed", running=NEW)])
    followed = await follow.follow_activation(begun)
    assert (followed.view.state, followed.said, machine.ran) == ("switched", ("one",), [])
    assert [event.status for event in events.of(HostSwitched)] == [0]
    await follow.follow_to_end()
    assert asked("watch", machine.ran) == [(RUN, "switching", "c1")]


@in_no_time
async def test_answer_to_the_word_may_be_the_end() -> None:
    follow, machine, _ = follower([])
    answer = answers.view({"state": ["committed"], "running": [NEW], "accepted": ["yes"]})
    followed = await follow.follow_to_end(proof(heard=0.0, answer=answer))
    assert (followed.view.state, machine.ran) == ("committed", [])


@in_no_time
async def test_answer_to_the_word_may_come_before_the_end() -> None:
    follow, machine, _ = follower([said(state="committed", running=NEW)])
    answer = answers.view({"state": ["committing"], "running": [NEW], "accepted": ["yes"]})
    assert (await follow.follow_to_end(proof(heard=0.0, answer=answer))).view.state == "committed"
    assert asked("watch", machine.ran) == [(RUN, "committing", "")]


@in_no_time
async def test_a_host_that_reboots_is_silent_for_as_long_as_two_boots_take() -> None:
    away = int(2 * (HOST.boot_timeout + DOWN_ALLOWANCE))
    silence: list[Says | Output | Exception] = [LOST] * int(away / RETRY)
    back = [*silence, said(state="switched", running=NEW, closes_in=600)]
    follow, _, events = follower([said(state="arming", closes_in=600), *back], Goal.BOOT)
    assert (await follow.follow_activation()).view.state == "switched"
    assert [event.phase for event in events.of(PhaseStarted)] == [Phase.REBOOT, Phase.PROVE]


@in_no_time
async def test_a_reboot_that_is_over_before_anybody_looks_is_told_too() -> None:
    follow, _, events = follower([LOST, said(state="switched", running=NEW, closes_in=600)], Goal.BOOT)
    assert (await follow.follow_activation()).view.state == "switched"
    assert [event.phase for event in events.of(PhaseStarted)] == [Phase.REBOOT, Phase.PROVE]


@in_no_time
async def test_end_is_awaited_and_each_phase_told_once() -> None:
    follow, _, events = follower(
        [
            said(state="committing", status=0), said(state="committing"), said(state="reverting"),
            said(state="reverting"), said(state="reverted"),
        ]
    )  # fmt: skip
    assert (await follow.follow_to_end()).view.state == "reverted"
    assert [event.phase for event in events.of(PhaseStarted)] == [Phase.COMMIT, Phase.REVERT]


@pytest.mark.parametrize("state", ["committed", "tested", "reverted", "stuck", "superseded", "unknown"])
def test_closed_transaction_is_an_end(state: str) -> None:
    @in_no_time
    async def test() -> None:
        follow, _, _ = follower([said(state=state)])
        assert (await follow.follow_to_end()).view.state == state

    test()


@in_no_time
async def test_connection_may_come_and_go() -> None:
    follow, _, _ = follower([LOST] * 100 + [said(state="committed")])
    assert (await follow.follow_to_end()).view.state == "committed"


@in_no_time
async def test_what_kept_the_host_from_answering_last_is_told() -> None:
    follow, _, _ = follower([UnreachableError(HOST.name, "no route"), LOST, said(state="committed")])
    assert (await follow.follow_to_end()).lost == "connection lost"


@in_no_time
async def test_refusal_says_more_than_the_silence_after_it() -> None:
    other = HostKeyError(HOST.name, "it answers with ANOTHER key")
    follow, _, _ = follower([other, LOST, LOST, said(state="reverted")])
    assert (await follow.follow_to_end()).lost == "it answers with ANOTHER key"
    follow, _, _ = follower([other, LOST])
    with pytest.raises(HostKeyError, match="ANOTHER key"):
        await follow.follow_to_end()


@in_no_time
async def test_host_that_stays_silent_is_given_up_after_its_deadline() -> None:
    follow, _, _ = follower(LOST)
    started = asyncio.get_running_loop().time()
    with pytest.raises(UnreachableError):
        await follow.follow_to_end()
    waited = asyncio.get_running_loop().time() - started
    longest = HOST.activation_timeout + HOST.confirm_timeout + GOING_BACK  # it may have begun just now
    assert longest <= waited < longest + 2


@pytest.mark.parametrize(
    ("seen", "seconds"),
    [
        (said(state="switching", closes_in="100"), 100 + HOST.confirm_timeout),
        (said(state="switched", closes_in="7"), 7),
        (said(state="reverting", closes_in="-3"), 0),
        (said(state="committing", closes_in="-900"), 0),
    ],
)
def test_host_that_falls_silent_is_given_up_when_it_must_have_gone_back(seen: Output, seconds: float) -> None:
    @in_no_time
    async def test() -> None:
        follow, _, _ = follower([seen, LOST])
        started = asyncio.get_running_loop().time()
        with pytest.raises(UnreachableError):
            await follow.follow_to_end()
        waited = asyncio.get_running_loop().time() - started
        assert seconds + GOING_BACK <= waited < seconds + GOING_BACK + 2

    test()


@pytest.mark.parametrize("state", ["switching", "switched"])
def test_host_that_does_not_act_on_its_own_deadline_is_given_up(state: str) -> None:
    @in_no_time
    async def test() -> None:
        follow, _, _ = follower(Says(seconds=1, stdout=f"state={state}\ncloses_in=-5\n".encode()))
        started = asyncio.get_running_loop().time()
        with pytest.raises(OverdueError, match=f"still {state} 5 s after its own deadline"):
            await follow.follow_to_end()
        assert GOING_BACK <= asyncio.get_running_loop().time() - started < GOING_BACK + 3

    test()


@in_no_time
async def test_host_that_slept_past_its_deadline_gets_the_time_to_act_on_it() -> None:
    late = Says(seconds=1, stdout=b"state=switched\ncloses_in=-3600\n")
    committing = Says(seconds=1, stdout=b"state=committing\ncloses_in=-3600\n")
    follow, _, _ = follower([*[late] * 50, LOST, *[late] * 50, *[committing] * 90, said(state="committed")])
    assert (await follow.follow_to_end()).view.state == "committed"


@in_no_time
async def test_silent_host_has_as_long_to_go_back_as_it_took_to_switch() -> None:
    switching = said(state="switching", closes_in="500")
    follow, _, _ = follower([switching, Says(seconds=40, stdout=b"state=switched\nstatus=0\n"), LOST])
    assert (await follow.follow_activation()).view.state == "switched"
    started = asyncio.get_running_loop().time()
    with pytest.raises(UnreachableError):
        await follow.follow_to_end(proof(heard=started))
    waited = asyncio.get_running_loop().time() - started
    longest = HOST.confirm_timeout + 40 + GOING_BACK
    assert longest <= waited < longest + 3


@in_no_time
async def test_each_answer_renews_the_patience() -> None:
    silence = [LOST] * 100
    follow, _, _ = follower(
        [said(state="reverting"), *silence, said(state="reverting"), *silence, said(state="reverted")]
    )
    assert (await follow.follow_to_end()).view.state == "reverted"


@in_no_time
async def test_host_that_answers_for_ever_is_given_up_too() -> None:
    follow, _, _ = follower(Says(seconds=20, stdout=b"state=reverting\n"))
    started = asyncio.get_running_loop().time()
    with pytest.raises(UnreachableError, match="still reverting after"):
        await follow.follow_to_end()
    assert 3 * HOST.activation_timeout <= asyncio.get_running_loop().time() - started < 2 * 3600
