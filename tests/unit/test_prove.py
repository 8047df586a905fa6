"""When a switched host is proven, and when it is not. The clock does not wait: these tests take no time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import AuthenticationError, CommandFailedError, HostKeyError, UnreachableError
from fleet.events import CheckReported
from fleet.host.program import HostProgram
from fleet.inventory import Check, Host
from fleet.machine import CHANNELS, Command, OnLine, Output
from fleet.model import Closure, HostName, RunId
from fleet.steps.hold import Hold
from fleet.steps.monitor import CheckMonitor, ask_once
from fleet.steps.prove import Prover
from fleet.steps.verdict import Condemned, Decided, Proven, Verdict
from tests.fakes import Answer, Answers, Events, FakeLink, FakeMachine, Says, asked, asks, in_no_time, runs, said

if TYPE_CHECKING:
    from collections.abc import Callable

NEW = Closure("/nix/store/new")
WEB = HostName("web-1")
CALM = said(state="switched", running=NEW)
LOST = UnreachableError(WEB, "connection lost")
YES, NO = Output(status=0), Output(status=1, stderr="no\n")


def now() -> float:
    return asyncio.get_running_loop().time()


def check(name: str = "ok", **keys: Any) -> Check:
    return Check.model_validate({"name": name, "command": name, "within": "20s", **keys})


LOOKS = 6
"""How often a host is looked at that settles for five seconds, before the last look over a new connection."""


def later(*steps: tuple[float, Answer]) -> Callable[[Command], Answer]:
    """Each answer from so many seconds after the first question."""
    started: list[float] = []

    def answer(_: Command) -> Answer:
        started.append(now())
        return [each for since, each in steps if now() - started[0] >= since][-1]

    return answer


class Case:
    """A host under proof."""

    def __init__(
        self,
        *,
        look: Answers = CALM,
        checks: dict[str, Answers] | None = None,
        word: Answers | None = None,
        **keys: Any,
    ) -> None:
        many = [check(name) for name in checks or {}]
        self.host = Host.model_validate({"name": "web-1", "checks": many, **keys})
        self.events = Events()
        self.hold = Hold()
        accepted = said(state="committing", running=NEW, accepted="yes")
        table = [(runs("sh", "-c", name), answers) for name, answers in (checks or {}).items()]
        self.link = FakeLink(self.host, (asks("look"), look), (asks("word"), word or accepted), *table)

    async def prove(self) -> Verdict:
        monitor = CheckMonitor(host=self.host, checks=self.host.checks, here=self.link, emit=self.events, stage="after")
        program = HostProgram("/nix/store/p/fleet-host")
        prover = Prover(self.link, program, RunId("r1"), NEW, monitor, hold=self.hold)
        self.began = now()
        try:
            self.proof = await prover.prove()
            return self.proof.verdict
        finally:
            self.took = now() - self.began

    @property
    def words(self) -> list[str]:
        """What the host was told."""
        return words(self.link)


def words(machine: FakeMachine) -> list[str]:
    """What was left for the host over this connection."""
    return [word for _, word, *_ in asked("word", machine.ran)]


@in_no_time
async def test_calm_host_is_proven_after_settling() -> None:
    case = Case()
    assert isinstance(await case.prove(), Proven)
    assert 5 <= case.took < 6
    assert case.words == ["confirm"]
    assert case.link.connected == 2  # and the word went over a connection of its own


@in_no_time
async def test_nobody_waits_where_nothing_has_to_settle() -> None:
    case = Case(settle="0s", checks={"ok": YES})
    assert isinstance(await case.prove(), Proven)
    assert case.took < 0.2


@in_no_time
async def test_host_that_is_slow_to_answer_first_has_all_its_time_to_settle() -> None:
    slow = Says(stdout=CALM.stdout.encode(), seconds=4.0)
    looks: tuple[Answers, ...] = ([slow, CALM], [CALM, CALM, slow, CALM], slow)
    for look in looks:
        case = Case(look=look)
        assert isinstance(await case.prove(), Proven)


@in_no_time
async def test_settling_starts_anew_after_each_disturbance() -> None:
    restless = said(state="switched", running=NEW, unsettled="a.service is waiting to be restarted")
    case = Case(look=later((0, CALM), (3, restless), (4, CALM)), checks={"ok": YES})
    assert isinstance(await case.prove(), Proven)
    assert 9 <= case.took < 10.5


@in_no_time
async def test_settling_starts_anew_when_another_system_ran_meanwhile() -> None:
    other = said(state="switched", running="/nix/store/other")
    case = Case(look=later((0, CALM), (3, other), (4, CALM)), checks={"ok": YES})
    assert isinstance(await case.prove(), Proven)
    assert 9 <= case.took < 10.5


@in_no_time
async def test_check_that_fails_in_between_starts_settling_anew() -> None:
    case = Case(checks={"ok": later((0, YES), (3, NO), (4, YES))})
    assert isinstance(await case.prove(), Proven)
    assert 8.9 <= case.took < 11


@in_no_time
async def test_check_may_take_its_time_to_pass() -> None:
    case = Case(checks={"ok": later((0, NO), (15, YES)), "quick": YES})
    assert isinstance(await case.prove(), Proven)
    assert 20 <= case.took < 22


@in_no_time
async def test_check_that_does_not_pass_in_time_condemns() -> None:
    case = Case(checks={"quick": YES, "slow": NO})
    verdict = await case.prove()
    assert verdict == Condemned("check slow: exit status 1: no (within 20 s)", found=True)
    assert 20 <= case.took < 22
    assert case.words == ["abandon found check slow: exit status 1: no (within 20 s)"]


@in_no_time
async def test_check_that_comes_and_goes_condemns_in_the_end() -> None:
    case = Case(checks={"ok": lambda _: YES if int(now()) % 3 else NO})
    verdict = await case.prove()
    assert isinstance(verdict, Condemned)
    assert verdict.found
    assert 25 < case.took <= 27


@in_no_time
async def test_bad_unit_condemns_at_once() -> None:
    bad = said(state="switched", running=NEW, bad=["a.service has failed", "b.socket has failed"])
    case = Case(look=later((0, CALM), (2, bad)))
    assert await case.prove() == Condemned("a.service has failed; b.socket has failed", found=True)
    assert case.took < 3


@in_no_time
async def test_unit_that_never_settles_condemns() -> None:
    restless = said(state="switched", running=NEW, unsettled="a.service is waiting to be restarted")
    case = Case(look=restless)
    assert await case.prove() == Condemned("a.service is waiting to be restarted (after 5 s)", found=True)


@in_no_time
async def test_system_that_does_not_run_is_not_proven() -> None:
    case = Case(look=said(state="switched", running="/nix/store/other"))
    verdict = await case.prove()
    assert verdict == Condemned("/nix/store/other runs instead (after 5 s)", found=False)


@in_no_time
async def test_host_that_decided_by_itself_is_believed() -> None:
    case = Case(look=later((0, CALM), (2, said(state="reverting", running=NEW))))
    verdict = await case.prove()
    assert isinstance(verdict, Decided)
    assert (verdict.view.state, case.words) == ("reverting", [])


@in_no_time
async def test_word_that_came_too_late_decides_nothing() -> None:
    case = Case(word=said(state="reverted", running="/nix/store/old", accepted="no"))
    verdict = await case.prove()
    assert isinstance(verdict, Decided)
    assert verdict.view.state == "reverted"


@in_no_time
async def test_bad_unit_in_the_very_last_look_condemns() -> None:
    looks: list[Answer] = [*[CALM] * LOOKS, said(state="switched", running=NEW, bad="late.service has failed")]
    case = Case(look=looks)
    assert await case.prove() == Condemned("late.service has failed", found=True)
    assert case.words == ["abandon found late.service has failed"]


@in_no_time
async def test_unit_that_restarts_in_the_very_last_look_is_given_its_time() -> None:
    restless = said(state="switched", running=NEW, unsettled="a.service is waiting to be restarted")
    case = Case(look=[*[CALM] * LOOKS, restless, CALM], checks={"ok": YES})
    assert isinstance(await case.prove(), Proven)
    assert case.words == ["confirm"]
    assert case.took >= 10


# --- lost contact ----------------------------------------------------------------------------------


@in_no_time
async def test_host_that_comes_back_is_proven() -> None:
    case = Case(checks={"ok": YES})
    case.link.connecting = [LOST] * 20
    assert isinstance(await case.prove(), Proven)
    assert 14.5 < case.took < 16


@in_no_time
async def test_check_that_failed_before_a_silence_has_its_time_after_it() -> None:
    """The link carries nothing for 30 s and goes on. The check, which has 20 s, passes as soon as it is asked again."""
    silent = Says(stdout=CALM.stdout.encode(), seconds=30.0)
    case = Case(look=[CALM, silent, CALM], checks={"ok": [NO, *[Says(seconds=60.0)] * 6, YES]})
    assert isinstance(await case.prove(), Proven)
    assert case.words == ["confirm"]


@in_no_time
async def test_host_that_does_not_come_back_was_silent_and_not_found_bad() -> None:
    case = Case(checks={"ok": YES})
    case.link.is_lost = True
    assert await case.prove() == Condemned("no new connection: no answer in time", found=False)
    assert 60 <= case.took < 62


@in_no_time
async def test_proof_tells_when_the_host_was_heard_last_and_what_has_kept_it_silent_since() -> None:
    case = Case(look=later((0, CALM), (3, LOST)))
    assert isinstance(await case.prove(), Condemned)
    assert 2 <= case.proof.heard - case.began < 3
    assert case.proof.lost == "no new connection: connection lost"
    well = Case()
    assert isinstance(await well.prove(), Proven)
    assert (well.took + well.began - well.proof.heard < 0.1, well.proof.lost) == (True, "")


@in_no_time
async def test_proof_tells_what_the_checks_said_last() -> None:
    case = Case(checks={"quick": YES, "slow": NO})
    await case.prove()
    assert [(one.check, one.passed) for one in case.proof.answers] == [("quick", True), ("slow", False)]


@in_no_time
async def test_short_silence_after_a_long_proof_is_forgiven() -> None:
    case = Case(
        look=later((0, CALM), (70, LOST), (75, CALM)),
        checks={"ok": later((0, NO), (65, YES))},
    )
    case.host = case.link.host = case.host.model_copy(update={"checks": (check("ok", within="90s"),)})
    assert isinstance(await case.prove(), Proven)


@in_no_time
async def test_time_without_contact_is_not_the_checks() -> None:
    case = Case(checks={"ok": later((0, NO), (15, YES))})
    case.link.connecting = [LOST] * 50  # 25 s, longer than the check may take
    assert isinstance(await case.prove(), Proven)


@in_no_time
async def test_calm_before_a_silence_does_not_count() -> None:
    case = Case(look=later((0, CALM), (4, LOST), (8, CALM)), checks={"ok": YES})
    assert isinstance(await case.prove(), Proven)
    assert 12.5 < case.took < 15


@in_no_time
async def test_check_has_to_pass_again_after_a_silence() -> None:
    slow = Says(seconds=4)
    case = Case(look=later((0, CALM), (3, LOST), (4, CALM)), checks={"ok": later((0, YES), (2.5, slow))})
    assert isinstance(await case.prove(), Proven)
    assert case.took > 3 + 4 + 5


@in_no_time
async def test_check_that_could_not_be_asked_was_not_seen_to_fail() -> None:
    case = Case(checks={"ok": LOST})
    verdict = await case.prove()
    assert verdict == Condemned("check ok keeps failing (after 25 s)", found=False)


@in_no_time
async def test_connection_that_comes_and_goes_for_ever_proves_nothing() -> None:
    case = Case(look=lambda _: CALM if now() % 10 < 1 else LOST, settle="5s")
    assert isinstance(verdict := await case.prove(), Condemned)
    assert not verdict.found
    assert 5 + 3 * 60 <= case.took < 5 + 3 * 60 + 11


@in_no_time
async def test_short_silences_do_not_add_up_to_a_long_one() -> None:
    case = Case(look=lambda _: LOST if now() < 1140 and now() % 20 < 14 else CALM, settle="10s")
    assert isinstance(await case.prove(), Proven)
    assert case.took > 140


@pytest.mark.parametrize("kind", [AuthenticationError, HostKeyError])
def test_login_that_is_refused_for_a_moment_is_tried_again(kind: type[AuthenticationError | HostKeyError]) -> None:
    @in_no_time
    async def test() -> None:
        case = Case()
        case.link.connecting = [kind(WEB, "login refused")] * 5
        assert isinstance(await case.prove(), Proven)

    test()


@pytest.mark.parametrize("kind", [AuthenticationError, HostKeyError])
def test_login_that_stays_refused_does_not_prove_the_system_bad(kind: type[AuthenticationError | HostKeyError]) -> None:
    @in_no_time
    async def test() -> None:
        case = Case()
        case.link.connecting = [*[kind(WEB, "login refused")] * 5, *[LOST] * 1000]
        assert await case.prove() == Condemned("no new login: login refused", found=False)
        assert 60 <= case.took < 63
        assert len(case.link.connecting) > 900
        assert case.words == ["abandon silent no new login: login refused"]

    test()


# --- turned away -----------------------------------------------------------------------------------


def turned_away() -> UnreachableError:
    error = UnreachableError(WEB, 'the SSH server takes no login now: "Not allowed at this time"')
    error.turns_away = True
    return error


@in_no_time
async def test_busy_sshd_is_asked_again_while_the_old_connection_renews_the_deadline() -> None:
    case = Case()
    case.link.connecting = [turned_away()] * 40  # 120 s, twice what the host waits for
    assert isinstance(await case.prove(), Proven)
    assert 120 <= case.took < 130
    looks = [command for command in case.link.ran if asks("look")(command)]
    assert len(looks) >= 40
    assert case.words == ["confirm"]


@in_no_time
async def test_sshd_that_stays_busy_is_never_a_proof() -> None:
    case = Case()
    case.link.connecting = [turned_away()] * 1000
    verdict = await case.prove()
    reason = 'no new connection: the SSH server takes no login now: "Not allowed at this time"'
    assert verdict == Condemned(reason, found=False)
    assert 180 <= case.took < 187
    assert case.proof.lost == reason
    assert case.words == [f"abandon silent {reason}"]


@in_no_time
async def test_busy_sshd_over_a_lost_connection_is_waited_for_as_long_as_the_host_waits() -> None:
    case = Case(look=LOST)
    case.link.connecting = [turned_away()] * 1000
    assert await case.prove() == Condemned(case.proof.lost, found=False)
    assert "Not allowed at this time" in case.proof.lost
    assert 60 <= case.took < 64


@in_no_time
async def test_bad_unit_condemns_though_sshd_is_busy() -> None:
    case = Case(look=said(state="switched", running=NEW, bad="a.service has failed"))
    case.link.connecting = [turned_away()] * 1000
    assert await case.prove() == Condemned("a.service has failed", found=True)
    assert case.took < 1


@in_no_time
async def test_host_that_decides_while_sshd_is_busy_is_believed() -> None:
    case = Case(look=later((0, CALM), (10, said(state="reverting", running=NEW))))
    case.link.connecting = [turned_away()] * 1000
    assert isinstance(await case.prove(), Decided)
    assert case.words == []


@pytest.mark.parametrize(("settle", "logins"), [("0s", 1), ("900ms", 1), ("1200ms", 2), ("5s", 2)])
def test_commit_wants_a_login_that_is_young(settle: str, logins: int) -> None:
    @in_no_time
    async def test() -> None:
        case = Case(settle=settle)
        assert isinstance(await case.prove(), Proven)
        assert (case.link.connected, case.words) == (logins, ["confirm"])

    test()


@in_no_time
async def test_last_login_before_the_commit_is_asked_for_again_too() -> None:
    case = Case()
    case.link.connecting = [None, turned_away(), turned_away()]
    assert isinstance(await case.prove(), Proven)
    assert case.words == ["confirm"]


@in_no_time
async def test_program_that_fails_is_no_proof_that_the_system_is_bad() -> None:
    case = Case(look=CommandFailedError(WEB, "the host program failed"))
    verdict = await case.prove()
    assert verdict == Condemned("no new connection: the host program failed", found=False)


@in_no_time
async def test_word_that_cannot_be_left_changes_no_verdict() -> None:
    bad = said(state="switched", running=NEW, bad="a.service has failed")
    for error in (LOST, AuthenticationError(WEB, "login refused")):
        assert isinstance(await Case(look=bad, word=error).prove(), Condemned)


@pytest.mark.parametrize("looks", [[], [CALM] * LOOKS])
def test_bad_word_goes_over_the_connection_that_saw_it(looks: list[Answer]) -> None:
    @in_no_time
    async def test() -> None:
        bad = said(state="switched", running=NEW, bad="a.service has failed")
        case = Case(look=[*looks, bad], word=LOST)
        case.link.beyond = FakeMachine((asks("word"), said(accepted="yes")), *case.link.table)
        assert isinstance(await case.prove(), Condemned)
        assert (words(case.link.beyond), case.link.ran) == (["abandon found a.service has failed"], [])

    test()


@in_no_time
async def test_bad_word_goes_over_the_old_connection_when_the_new_one_is_lost() -> None:
    case = Case(look=said(state="switched", running=NEW, bad="a.service has failed"))
    case.link.beyond = FakeMachine((asks("word"), LOST), *case.link.table)
    assert isinstance(await case.prove(), Condemned)
    assert case.words == ["abandon found a.service has failed"]


@in_no_time
async def test_good_word_whose_answer_was_lost_and_that_was_heard_is_a_proof() -> None:
    case = Case(look=[*[CALM] * (LOOKS + 1), said(state="committed", running=NEW)], word=LOST)
    assert isinstance(await case.prove(), Proven)
    assert case.words == ["confirm"]


@in_no_time
async def test_host_that_has_gone_back_without_hearing_the_good_word_has_decided() -> None:
    case = Case(look=[*[CALM] * (LOOKS + 1), said(state="reverted", running="/nix/store/old")], word=LOST)
    assert isinstance(await case.prove(), Decided)


@in_no_time
async def test_host_that_is_away_after_the_good_word_is_not_condemned() -> None:
    case = Case(word=LOST)
    case.link.connecting = [None, None, *[LOST] * 1000]
    assert isinstance(await case.prove(), Proven)
    assert case.words == ["confirm"]


@in_no_time
async def test_good_word_whose_answer_was_lost_is_left_again() -> None:
    case = Case(word=[LOST, said(state="committing", running=NEW, accepted="yes")])
    assert isinstance(await case.prove(), Proven)
    assert case.words == ["confirm", "confirm"]


class Narrow(FakeMachine):
    """A machine that runs no more commands at once than a connection has channels."""

    def __init__(self, *table: Any) -> None:
        super().__init__(*table)
        self.channels = asyncio.Semaphore(CHANNELS)
        self.waited = 0.0

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        began = now()
        async with self.channels:
            self.waited = max(self.waited, now() - began if asks("look")(command) else 0.0)
            return await super().run(command, on_line=on_line)


@in_no_time
async def test_slow_checks_do_not_delay_a_look() -> None:
    case = Case(checks={f"slow-{number}": Says(seconds=4) for number in range(12)})
    case.link.beyond = machine = Narrow(*case.link.table)
    assert isinstance(await case.prove(), Proven)
    assert machine.waited == 0.0


# --- checks ----------------------------------------------------------------------------------------


@in_no_time
async def test_check_is_reported_when_its_answer_changes() -> None:
    case = Case(checks={"ok": later((0, NO), (3, YES))})
    await case.prove()
    reports = [(event.passed, event.stage) for event in case.events.of(CheckReported)]
    assert reports == [(False, "after"), (True, "after")]


@in_no_time
async def test_checks_are_asked_once_before_the_switch() -> None:
    case = Case(checks={"ok": YES, "no": NO})
    found = await ask_once(case.host, case.link, case.link, emit=case.events)
    assert {name: answer.passed for name, answer in found.items()} == {"ok": True, "no": False}
    assert [event.stage for event in case.events.of(CheckReported)] == ["before", "before"]


@in_no_time
async def test_lost_connection_is_no_answer_of_a_check() -> None:
    case = Case(checks={"ok": YES, "no": LOST})
    with pytest.raises(UnreachableError):
        await ask_once(case.host, case.link, case.link, emit=case.events)


class LosingMachine(FakeMachine):
    """Its connection is lost in the moment in which whoever asked does not want to know any more."""

    is_lost = False

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if self.is_lost:
                raise
            self.is_lost = True
            raise LOST from None
        return await super().run(command, on_line=on_line)


@in_no_time
async def test_bug_in_a_check_condemns_nobody_and_is_told() -> None:
    case = Case(checks={"ok": YES, "odd": ZeroDivisionError("oops")})
    with pytest.raises(ZeroDivisionError, match="oops"):
        await case.prove()
    assert case.words == []


@in_no_time
async def test_checks_end_also_when_the_connection_is_lost_in_the_same_moment() -> None:
    host = Host.model_validate({"name": "web-1", "checks": [check()]})
    machine = LosingMachine((runs("sh", "-c", "ok"), YES))
    monitor = CheckMonitor(host=host, checks=host.checks, here=machine, emit=Events(), stage="after")
    async with asyncio.timeout(30):
        async with monitor.asking(machine):
            await asyncio.sleep(1)
    assert monitor.last_answers() == []
