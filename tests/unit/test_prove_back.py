"""The old system from outside, after its host has proven it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.errors import AuthenticationError, HostKeyError, UnreachableError
from fleet.events import CheckReported
from fleet.host.answers import State, View
from fleet.host.program import HostProgram
from fleet.inventory import Host
from fleet.machine import Output
from fleet.model import CheckAnswer, Closure, HostName, RunId
from fleet.steps.prove_back import BackProver, Unwell
from tests.fakes import Answer, Answers, Events, FakeLink, FakeMachine, asked, asks, in_no_time, runs, said
from tests.unit.test_prove import LOST, NO, YES, later, now

if TYPE_CHECKING:
    from collections.abc import Sequence

OLD = Closure("/nix/store/old")
WEB = HostName("web-1")
REFUSED = AuthenticationError(WEB, "login refused: Permission denied")
BUSY = UnreachableError(WEB, "connection refused by the SSH server: Not allowed at this time")


class Case:
    """A host that has gone back."""

    def __init__(self, *, logins: Sequence[Exception | None] = (), true: Answer = YES, **checks: Answers) -> None:
        declared = [{"name": name, "command": name, "within": "20s"} for name in checks]
        self.host = Host.model_validate({"name": "web-1", "checks": declared, "confirm_timeout": "30s"})
        self.checks = checks
        table = [(runs("sh", "-c", name), answers) for name, answers in checks.items()]
        self.link = FakeLink(self.host, (asks("acquit"), said(acquitted="yes")), (runs("true"), true), *table)
        self.link.connecting = list(logins)
        self.events = Events()
        self.blame, self.reason = "found", "check ok: exit status 1: no (within 20 s)"

    async def prove(self, *, failed: tuple[str, ...] = ()) -> Unwell | None:
        before = {
            name: CheckAnswer(check=name, passed=name not in failed, said="", seconds=0.0) for name in self.checks
        }
        prover = BackProver(link=self.link, here=self.link, program=HostProgram(), run=RunId("r1"), emit=self.events)
        end = View(state=State.REVERTED, running=OLD, blame=self.blame, reason=self.reason)
        began = now()
        self.end, unwell = await prover.prove(end, before)
        self.took = now() - began
        return unwell

    @property
    def has_acquitted(self) -> bool:
        """Whether the host was told to take the blame back."""
        return asked("acquit", self.link.ran) == [("r1",)]


@in_no_time
async def test_old_system_is_well_when_what_passed_before_passes_again() -> None:
    case = Case(ok=later((0, NO), (10, YES)), broken=NO)
    assert await case.prove(failed=("broken",)) is None
    assert {event.stage for event in case.events.of(CheckReported)} == {"reverted"}
    assert case.link.connected == 1
    assert not case.has_acquitted


@in_no_time
async def test_the_standing_connection_proves_nothing() -> None:
    """It answers all the while, and whoever comes anew is refused."""
    case = Case(ok=YES, logins=[REFUSED] * 99)
    assert await case.prove() == Unwell("nobody can log in: login refused: Permission denied")
    assert 60 <= case.took <= 90
    assert case.events.of(CheckReported) == []


@in_no_time
@pytest.mark.parametrize("error", [REFUSED, BUSY, HostKeyError(WEB, "host key not accepted")])
async def test_refusal_for_a_while_is_waited_for(error: Exception) -> None:
    case = Case(ok=YES, logins=[error] * 6)
    assert await case.prove() is None


@in_no_time
async def test_waiting_gets_longer_since_each_refusal_counts() -> None:
    case = Case(logins=[BUSY] * 99)
    assert await case.prove() is not None
    assert 99 - len(case.link.connecting) < 16


@in_no_time
async def test_login_that_runs_nothing_is_none() -> None:
    case = Case(true=Output(status=1, stdout="This account is currently not available.\n"))
    assert await case.prove() == Unwell("nobody can log in: a login runs nothing: `true` ends with exit status 1")


@in_no_time
async def test_checks_are_asked_over_the_new_login() -> None:
    case = Case(ok=LOST)
    case.link.beyond = FakeMachine((runs("sh", "-c", "ok"), YES))
    assert await case.prove() is None


@in_no_time
async def test_old_system_is_unwell_when_a_check_does_not_pass_and_the_new_one_is_not_to_blame() -> None:
    case = Case(ok=NO)
    assert await case.prove() == Unwell("check ok: exit status 1: no (within 20 s)", "ok")
    assert (case.end.blame, case.has_acquitted) == ("silent", True)


@in_no_time
@pytest.mark.parametrize(
    ("blame", "reason"),
    [
        ("found", "web.service has failed"),
        ("found", "check okay: exit status 1"),
        ("silent", "check ok: exit status 1"),
    ],
)
async def test_what_else_was_found_stays_found(blame: str, reason: str) -> None:
    case = Case(ok=NO)
    case.blame, case.reason = blame, reason
    assert await case.prove() is not None
    assert (case.end.blame, case.has_acquitted) == (blame, False)


@in_no_time
@pytest.mark.parametrize("answer", [said(), UnreachableError(WEB, "connection lost")])
async def test_blame_stays_where_the_host_does_not_take_it_back(answer: Answer) -> None:
    case = Case(ok=NO)
    case.link.table.insert(0, (asks("acquit"), answer))
    await case.prove()
    assert case.end.blame == "found"


@in_no_time
async def test_old_system_that_cannot_be_asked_is_unwell() -> None:
    assert await Case(ok=LOST).prove() is not None
