"""One host's run from push to result, with a fake host at the other end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fleet.deploy.rollout import Rollout
from fleet.errors import AuthenticationError, CommandFailedError, HostKeyError, StateError, UnreachableError
from fleet.events import CheckReported, HostCondemned, HostProven, HostSwitched, PhaseStarted
from fleet.host.program import HostProgram
from fleet.inventory import BuildOn
from fleet.machine import Command, Output
from fleet.model import Derivation, Goal, HostName, HostResult, Outcome, Phase
from fleet.plans import Action
from fleet.steps.load import Load
from tests.fakes import Answers, Events, FakeLink, FakeMachine, Says, asked, asks, in_no_time, runs, said
from tests.unit import builders
from tests.unit.builders import NEW, OLD, RUN, host

if TYPE_CHECKING:
    from fleet.deploy.journal import Recorder
    from fleet.events import Envelope

WEB = HostName("web-1")
LOST = UnreachableError(WEB, "connection lost")
PROGRAM = HostProgram("/nix/store/p/fleet-host")
YES, NO = Output(status=0), Output(status=1, stderr="no\n")
SWITCHED = said(state="switched", running=NEW, status=0)
GOOD = said(platform="x86_64-linux")
CHECKS = [{"name": "ok", "command": "ok", "within": "20s"}]


class Case:
    """A host, what it answers, and the run that goes to it."""

    def __init__(self, *, job: dict[str, Any] | None = None, copied: Answers = YES, **answers: Answers) -> None:
        usual: dict[str, Answers] = {
            "root": said(done="yes"),
            "unroot": said(done="yes"),
            "stage": said(done="yes"),
            "begin": said(begun=RUN, state="switching"),
            "watch": [SWITCHED, said(state="committed", running=NEW)],
            "look": SWITCHED,
            "word": said(state="committing", accepted="yes"),
            "facts": said(running=NEW, running_kernel="new", booted_kernel="old"),
        }
        usual_job: dict[str, Any] = {"host": host(checks=CHECKS), "load": Load(missing=(NEW,), missing_bytes=7)}
        self.job = builders.job(**{"copy_with": "nix", **usual_job, **(job or {})})
        table = [(asks(verb), answer) for verb, answer in {**usual, **answers}.items()]
        more = [
            (runs("journalctl"), Output(status=0)),
            (runs("true"), YES),
            (runs("sh", "-c", "ok"), answers.get("ok", YES)),
        ]
        self.link = FakeLink(self.job.host, *table, *more, (runs(f"{NEW}/bin/switch-to-configuration"), YES))
        self.here = FakeMachine((runs("nix"), copied), name="controller")
        self.events = Events()
        self.recorder: Recorder | None = None
        self.must_record = True

    async def deploy(self) -> HostResult:
        """How the host ended, as the only one of its rollout."""
        name = self.job.host.name
        context = builders.context(self.events, here=self.here, links={name: self.link})
        if self.recorder is not None:
            context.journal.record_in(self.recorder, must_record=self.must_record)
        plan = builders.plan((name,), parts=[self.job.part])
        await Rollout(context, plan, {name: self.job}, PROGRAM).roll_out()
        self.journal = context.journal
        return context.journal.results[name]

    @property
    def has_begun(self) -> bool:
        """Whether it was told that the host may have been asked to begin."""
        return self.journal.has_begun(self.job.host.name)

    def asked(self, *verbs: str) -> list[str]:
        """Which of these the host was asked, in order."""
        return [verb for command in self.link.ran for verb in verbs if asks(verb)(command)]


@in_no_time
async def test_good_system_is_kept() -> None:
    case = Case()
    found = await case.deploy()
    assert (found.outcome, found.closure, found.previous, found.boot_default) == (Outcome.KEPT, NEW, OLD, True)
    assert (found.failure, found.notes) == (None, ())
    assert case.asked("root", "begin", "word", "unroot") == ["root", "begin", "word"]
    assert [event.phase for event in case.events.of(PhaseStarted)] == [
        Phase.PUSH, Phase.SWITCH, Phase.PROVE, Phase.COMMIT,
    ]  # fmt: skip
    assert len(case.events.of(HostProven)) == 1


@in_no_time
async def test_time_of_a_switch_counts_from_the_order_and_the_word_asks_for_what_was_not_heard_yet() -> None:
    shown = f"begun={RUN}\nstate=switched\nrunning={NEW}\nstatus=0\ncursor=c7\n".encode()
    case = Case(begin=Says(seconds=3, stdout=shown), watch=said(state="committed", running=NEW))
    assert (await case.deploy()).outcome is Outcome.KEPT
    assert [event.seconds for event in case.events.of(HostSwitched)] == [pytest.approx(3.0)]
    assert asked("word", case.link.ran) == [(RUN, "confirm", "wait", "c7", "1")]


@in_no_time
async def test_bytes_come_after_the_root_and_before_the_switch() -> None:
    case = Case()
    order: list[str] = []

    def note(what: str, answer: Output) -> Any:
        def answering(_: Command) -> Output:
            order.append(what)
            return answer

        return answering

    case.link.table = [
        (asks("root"), note("root", said(done="yes"))),
        (asks("begin"), note("begin", said(begun=RUN, state="switching"))),
        *case.link.table,
    ]  # fmt: skip
    case.here.table = [(runs("nix"), note("copy", YES))]
    await case.deploy()
    assert order == ["root", "copy", "begin"]


@in_no_time
async def test_tested_system_is_not_the_boot_default() -> None:
    found = await Case(job={"goal": Goal.TEST}, watch=[SWITCHED, said(state="tested", running=NEW)]).deploy()
    assert (found.outcome, found.boot_default) == (Outcome.KEPT, False)


@in_no_time
async def test_what_the_logins_of_a_proof_lack_is_said() -> None:
    case = Case()
    case.link.shortfall = "nobody has logged in"
    found = await case.deploy()
    assert (found.outcome, found.notes) == (Outcome.KEPT, ("nobody has logged in",))


@in_no_time
async def test_login_is_tried_before_the_switch() -> None:
    case = Case()
    await case.deploy()
    before, after = case.link.ran[: case.link.ran_before_rehearsal], case.link.ran[case.link.ran_before_rehearsal :]
    assert any(asks("root")(command) for command in before)
    assert any(asks("begin")(command) for command in after)


async def test_host_whose_login_is_another_machines_is_not_switched() -> None:
    case = Case()
    case.link.rehearsal = HostKeyError(WEB, "the host shows another key")
    found = await case.deploy()
    assert (found.outcome, found.failure and found.failure.kind) == (Outcome.FAILED, "host_key")
    assert (case.has_begun, case.asked("begin", "unroot")) == (False, ["unroot"])


@in_no_time
async def test_failing_check_rolls_back() -> None:
    ended = said(state="reverted", running=OLD, blame="found", reason="check ok: exit status 1: no (within 20 s)")
    case = Case(ok=[YES, *[NO] * 25, YES], watch=[SWITCHED, ended])
    found = await case.deploy()
    assert found.outcome is Outcome.ROLLED_BACK
    assert found.failure is not None
    assert (found.failure.kind, found.failure.message) == ("unhealthy", "check ok: exit status 1: no (within 20 s)")
    assert len(case.events.of(HostCondemned)) == 1
    assert [event.stage for event in case.events.of(CheckReported)][-1] == "reverted"


@in_no_time
async def test_old_system_whose_check_fails_needs_a_human() -> None:
    case = Case(ok=[YES, NO], watch=[SWITCHED, said(state="reverted", running=OLD, blame="found", reason="x")])
    assert (await case.deploy()).outcome is Outcome.NEEDS_HUMAN


@in_no_time
async def test_old_system_whose_check_cannot_be_asked_needs_a_human() -> None:
    case = Case(ok=[YES, LOST], watch=[said(state="reverted", running=OLD, blame="found", reason="x")])
    assert (await case.deploy()).outcome is Outcome.NEEDS_HUMAN


@in_no_time
async def test_host_that_went_back_by_itself_is_not_proven_again() -> None:
    case = Case(watch=[said(state="reverted", running=OLD, status=1, blame="found", reason="activation failed")])
    found = await case.deploy()
    assert (found.outcome, case.asked("look", "word")) == (Outcome.ROLLED_BACK, [])


@pytest.mark.parametrize(
    ("state", "outcome", "kind"),
    [
        ("superseded", Outcome.FAILED, "superseded"),
        ("stuck", Outcome.NEEDS_HUMAN, "stuck"),
        ("unknown", Outcome.NEEDS_HUMAN, "replaced"),
    ],
)
def test_other_ends(state: str, outcome: Outcome, kind: str) -> None:
    @in_no_time
    async def test() -> None:
        found = await Case(watch=[SWITCHED, said(state=state, running=NEW)]).deploy()
        assert found.failure is not None
        assert (found.outcome, found.failure.kind) == (outcome, kind)

    test()


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ({"root": said(refused="full", message="no space")}, "unfit"),
        ({"copied": Output(status=1, stderr="error: x\n")}, "push"),
        ({"ok": LOST}, "unreachable"),
        ({"begin": said(refused="locked", message="taken")}, "locked"),
        ({"begin": said(refused="quarantined", message="bad")}, "quarantined"),
        ({"begin": LOST, "watch": said(state="unknown")}, "unreachable"),
        ({"begin": CommandFailedError(WEB, "exit 2"), "watch": said(state="unknown")}, "command"),
    ],
)
def test_failure_before_the_switch_changes_nothing(answers: dict[str, Answers], kind: str) -> None:
    @in_no_time
    async def test() -> None:
        case = Case(**answers)  # type: ignore[arg-type]
        found = await case.deploy()
        assert found.failure is not None
        assert (found.outcome, found.failure.kind, found.failure.now) == (Outcome.FAILED, kind, "nothing was changed")
        assert case.asked("unroot") == ["unroot"]
        assert "begin" in answers or not case.has_begun

    test()


@in_no_time
async def test_host_that_went_away_during_the_push_is_unreachable_and_may_be_deferred() -> None:
    case = Case(job={"host": host(offline="defer")}, copied=Output(status=1, stderr="broken pipe\n"))
    case.link.table = [(runs("true"), LOST), *case.link.table]
    assert (await case.deploy()).outcome is Outcome.DEFERRED


@pytest.mark.parametrize(
    "answer",
    [
        said(refused="broken", message="cannot lock /run/fleet/.opening"),
        said(refused="locked", message="run r is open"),
        Says(seconds=3600),
        Output(status=1),
        LOST,
    ],
)
def test_host_that_may_yet_begin_is_in_doubt(answer: Answers) -> None:
    @in_no_time
    async def test() -> None:
        case = Case(begin=LOST, watch=said(state="unknown", running=OLD), unroot=answer)
        found = await case.deploy()
        assert found.failure is not None
        assert (found.outcome, found.failure.kind) == (Outcome.NEEDS_HUMAN, "in_doubt")
        assert case.has_begun

    test()


@in_no_time
async def test_answer_to_begin_that_was_lost_is_followed_up() -> None:
    case = Case(begin=[LOST, said(begun=RUN, state="switching")])
    assert (await case.deploy()).outcome is Outcome.KEPT
    case = Case(begin=LOST)
    assert (await case.deploy()).outcome is Outcome.KEPT


@in_no_time
async def test_host_that_could_not_start_its_keeper_may_have_begun() -> None:
    broken = said(refused="broken", message="PID 1 does not start the keeper")
    case = Case(begin=broken)
    assert (await case.deploy()).outcome is Outcome.KEPT
    assert case.asked("begin", "unroot") == ["begin", "begin"]
    case = Case(begin=broken, watch=broken)
    assert (await case.deploy()).outcome is Outcome.NEEDS_HUMAN


@pytest.mark.parametrize("error", [LOST, AuthenticationError(WEB, "login refused")])
def test_host_that_is_lost_in_the_switch_is_in_doubt(error: Exception) -> None:
    @in_no_time
    async def test() -> None:
        case = Case(watch=error)
        found = await case.deploy()
        assert found.failure is not None
        assert (found.outcome, found.failure.kind) == (Outcome.NEEDS_HUMAN, "in_doubt")
        assert error.args[0] in found.failure.message
        assert case.asked("unroot") == []

    test()


@in_no_time
async def test_host_whose_keeper_is_stopped_is_not_said_to_go_back_by_itself() -> None:
    stopped = Says(seconds=1, stdout=f"state=switched\nrunning={NEW}\ncloses_in=-5\n".encode())
    found = await Case(watch=[SWITCHED, stopped]).deploy()
    assert found.failure is not None
    assert (found.outcome, found.failure.kind) == (Outcome.NEEDS_HUMAN, "in_doubt")
    assert found.failure.now == f"not proven, and it does not go back to {OLD} by itself"
    assert "fleet-keep-" in found.failure.hint


@in_no_time
async def test_host_that_began_and_has_forgotten_it_was_changed() -> None:
    case = Case(watch=said(state="unknown", running=NEW))
    found = await case.deploy()
    assert found.failure is not None
    assert (found.outcome, found.failure.kind) == (Outcome.NEEDS_HUMAN, "replaced")
    assert "a later run has replaced its record" in found.failure.message
    assert case.asked("unroot") == []


@in_no_time
async def test_host_that_went_down_before_the_run_was_on_its_disk_was_not_changed() -> None:
    went_down: list[Output | Exception] = [
        said(state="switching", running=OLD),
        LOST,
        said(state="unknown", running=OLD),
    ]
    case = Case(watch=went_down, facts=said(running=OLD))
    found = await case.deploy()
    assert found.failure is not None
    assert (found.outcome, found.failure.kind) == (Outcome.FAILED, "command")
    assert "before the switch began" in found.failure.message


@in_no_time
async def test_host_that_went_back_unproven_is_told_with_what_kept_us_out() -> None:
    ended = said(state="reverted", running=OLD, blame="silent", reason="nobody confirmed within 60 s")
    case = Case(look=said(state="reverted", running=OLD), watch=[SWITCHED, ended])
    case.link.connecting = [AuthenticationError(WEB, "login refused"), LOST]
    found = await case.deploy()
    assert found.failure is not None
    assert found.failure.message == "no new login: login refused; nobody confirmed within 60 s"


@in_no_time
async def test_evidence_that_cannot_be_had_changes_no_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> list[str]:
        raise ZeroDivisionError

    monkeypatch.setattr("fleet.steps.evidence.lines", broken)
    ended = said(state="reverted", running=OLD, blame="found", reason="x", line="cannot bind")
    found = await Case(watch=[SWITCHED, ended]).deploy()
    assert found.failure is not None
    assert (found.outcome, found.failure.said) == (Outcome.ROLLED_BACK, ("cannot bind",))


@in_no_time
async def test_push_only_stages() -> None:
    case = Case(job={"goal": Goal.PUSH})
    found = await case.deploy()
    assert (found.outcome, case.asked("stage", "begin")) == (Outcome.STAGED, ["stage"])


@in_no_time
async def test_dry_activation_stages_and_tells() -> None:
    case = Case(job={"goal": Goal.DRY_ACTIVATE})
    found = await case.deploy()
    assert (found.outcome, case.asked("begin")) == (Outcome.STAGED, [])
    dry = runs(f"{NEW}/bin/switch-to-configuration", "dry-activate")
    assert [dry(command) for command in case.link.ran].count(True) == 1


@in_no_time
async def test_dry_activation_that_fails_is_told() -> None:
    case = Case(job={"goal": Goal.DRY_ACTIVATE})
    case.link.table = [(runs(f"{NEW}/bin/switch-to-configuration"), NO), *case.link.table]
    found = await case.deploy()
    assert found.failure is not None
    assert (found.outcome, found.failure.said) == (Outcome.FAILED, ("no",))


@in_no_time
async def test_rollback_is_not_stopped_by_checks_but_tells_of_them() -> None:
    case = Case(job={"checks_decide": False}, ok=NO)
    found = await case.deploy()
    assert (found.outcome, found.notes) == (Outcome.KEPT, ("check ok fails now: exit status 1: no",))
    lost = Case(job={"checks_decide": False}, ok=[YES, LOST])
    assert "could not be asked" in (await lost.deploy()).notes[0]


@in_no_time
async def test_check_that_failed_before_is_tolerated_where_that_is_wanted() -> None:
    tolerant = host(checks=[{**CHECKS[0], "tolerate_existing": True}])
    found = await Case(job={"host": tolerant}, ok=NO).deploy()
    assert (found.outcome, found.notes) == (Outcome.KEPT, ("check ok was failing before: exit status 1: no",))


@pytest.mark.parametrize(
    ("goal", "note"), [(Goal.SWITCH, "ran already; is now the boot default too"), (Goal.TEST, "ran already")]
)
def test_system_that_ran_already_is_said_to(goal: Goal, note: str) -> None:
    @in_no_time
    async def test() -> None:
        assert (await Case(job={"action": Action.COMMIT, "goal": goal}).deploy()).notes == (note,)

    test()


@in_no_time
async def test_system_built_on_the_host_is_asked_for_its_reboot() -> None:
    found = await building().deploy()
    assert (found.outcome, found.reboot_pending) == (Outcome.KEPT, True)
    assert (await building(facts=LOST).deploy()).outcome is Outcome.KEPT


BUILDING = {"derivation": Derivation("/nix/store/x.drv"), "build_on": BuildOn.TARGET, "load": Load()}


def building(says: Output = GOOD, job: dict[str, Any] | None = None, **answers: Answers) -> Case:
    """A host that builds its own closure, which says this of itself afterwards."""
    case = Case(job={**BUILDING, **(job or {})}, **answers)
    case.link.table = [(runs("nix-store", "--realise"), YES), (runs("sh", "-c"), says), *case.link.table]
    return case


@in_no_time
async def test_system_built_on_the_host_that_does_not_fit_is_not_switched_to() -> None:
    for goal in (Goal.SWITCH, Goal.PUSH):
        case = building(said(platform="aarch64-linux"), {"goal": goal})
        found = await case.deploy()
        assert found.failure is not None
        assert (found.outcome, found.failure.kind) == (Outcome.FAILED, "unfit")
        assert case.asked("begin", "stage", "unroot") == ["unroot"]


@pytest.mark.parametrize(("goal", "outcome"), [(Goal.SWITCH, Outcome.FAILED), (Goal.PUSH, Outcome.STAGED)])
def test_system_built_on_the_host_that_only_a_reboot_can_bring_waits_there(goal: Goal, outcome: Outcome) -> None:
    @in_no_time
    async def test() -> None:
        facts = builders.facts(init_interface="2")
        case = building(said(platform="x86_64-linux", init_interface="3"), {"goal": goal, "facts": facts})
        found = await case.deploy()
        assert found.outcome is outcome
        assert case.asked("begin", "stage", "unroot") == ["stage" if goal is Goal.PUSH else "unroot"]
        assert found.failure is None or found.failure.hint.endswith("--reboot always")

    test()


@in_no_time
async def test_build_that_fails_on_the_host_is_told() -> None:
    case = Case(job=BUILDING)
    case.link.table = [(runs("nix-store", "--realise"), NO), *case.link.table]
    found = await case.deploy()
    assert found.failure is not None
    assert (found.outcome, found.failure.message) == (Outcome.FAILED, "the build on the host failed with exit status 1")


class Full:
    """A recorder whose disk is full from some event on."""

    def __init__(self, phase: Phase) -> None:
        self.phase = phase
        self.is_full = False

    def record(self, envelope: Envelope) -> None:
        event = envelope.event
        self.is_full |= isinstance(event, PhaseStarted) and event.phase is self.phase

    async def flush(self) -> None:
        if self.is_full:
            raise StateError("no space left")


@pytest.mark.parametrize(("phase", "asked"), [(Phase.PUSH, ["unroot"]), (Phase.SWITCH, ["root", "unroot"])])
@pytest.mark.parametrize("must_record", [True, False])
def test_what_cannot_be_recorded_is_not_begun(phase: Phase, asked: list[str], *, must_record: bool) -> None:
    @in_no_time
    async def test() -> None:
        case = Case()
        case.recorder, case.must_record = Full(phase), must_record
        found = await case.deploy()
        kind = found.failure.kind if found.failure else None
        assert (found.outcome, kind) == ((Outcome.FAILED, "state") if must_record else (Outcome.KEPT, None))
        assert case.asked("root", "begin", "unroot") == (asked if must_record else ["root", "begin"])

    test()


@in_no_time
async def test_interrupted_push_is_tidied_up() -> None:
    case = Case()

    async def stuck(command: Command, **_: Any) -> Output:
        await asyncio.sleep(1000)
        return YES

    case.here.run = stuck  # type: ignore[method-assign]
    task = asyncio.create_task(case.deploy())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert case.asked("unroot") == ["unroot"]
