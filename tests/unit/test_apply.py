"""A plan that was read back from its text is applied, or refused: nothing happens but what it says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import ConfigError
from fleet.events import Envelopes, FindingReported, HostPlanned, PhaseStarted, RunStarted, WaveStarted
from fleet.inventory import BuildOn, Check
from fleet.library.reading import ignore
from fleet.machine import Output
from fleet.model import Derivation, Goal, HostName, Outcome, Phase, RunId, Serial, Verb
from fleet.plans import Plan
from fleet.plans.part import TITLE as PART_TITLE
from tests.fakes import AtOnce, Says, asked, asks, runs, said
from tests.unit.builders import NEW, OLD, outcomes
from tests.unit.world import BROKEN, ENTRY, FACTS, OLDER, SWITCHED, VALID, Applying

if TYPE_CHECKING:
    from pathlib import Path

    from fleet import RunResult
    from fleet.plans import Part

A, B = HostName("a"), HostName("b")
KEPT, FAILED, SKIPPED, BACK = Outcome.KEPT, Outcome.FAILED, Outcome.SKIPPED, Outcome.ROLLED_BACK
OK = Check.model_validate({"name": "ok", "command": "ok", "within": "1s", "interval": "10ms"})
DRV = Derivation(f"/nix/store/{'3' * 32}-x.drv")


def found(result: RunResult) -> dict[str, Outcome]:
    return outcomes({one.host: one for one in result.hosts})


def kinds(result: RunResult) -> dict[str, str]:
    """The kind of each host's failure."""
    return {one.host: one.failure.kind for one in result.hosts if one.failure is not None}


# --- what it says ----------------------------------------------------------------------------------


async def test_plan_is_applied(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a", "b")
    result = await world.apply(world.plan(("a",), ("b",)))
    assert (result.exit_code, found(result)) == (0, {"a": KEPT, "b": KEPT})
    assert [(one.host, one.wave) for one in world.events.of(HostPlanned)] == [("a", 1), ("b", 2)]
    assert [command for command in world.here.ran if "eval" in command.argv] == []


async def test_checks_are_those_of_the_plan(tmp_path: Path) -> None:
    file = "[[defaults.checks]]\nname = 'other'\ncommand = 'other'\n"
    world = Applying(tmp_path, "a", more=file)
    assert found(await world.apply(world.plan(("a",), parts={"a": world.part("a", checks=(OK,))}))) == {"a": KEPT}
    ran = world.links[A].ran
    assert [any(runs("sh", "-c", name)(command) for command in ran) for name in ("ok", "other")] == [True, False]


async def test_check_of_the_plan_decides(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    world.on("a", (runs("sh", "-c", "ok"), [Output(status=0), Output(status=1)]))
    world.on("a", (asks("watch"), [SWITCHED, said(state="reverted", running=OLD, blame="found", reason="x")]))
    world.on("a", (runs("journalctl"), Output(status=0)))
    await world.apply(world.plan(("a",), parts={"a": world.part("a", checks=(OK,))}))
    assert [word.split()[0] for _, word, *_ in asked("word", world.links[A].ran)] == ["abandon"]


async def test_limits_are_those_of_the_plan(tmp_path: Path) -> None:
    file = "activation_timeout = '9s'\nconfirm_timeout = '9s'\n"
    file += "ignore_units = ['other']\nignore_snippets = ['other']\nlast_resort = 'reboot'\n"
    world = Applying(tmp_path, "a", more=file)
    part = world.part("a", activation_timeout=601, confirm_timeout=61, boot_timeout=602, ignore_units=("x-*",))
    await world.apply(world.plan(("a",), parts={"a": part}))
    order = world.orders("a")
    assert order[order.index(PART_TITLE) : -1] == part.text.splitlines()
    assert {"activation 601", "confirm 61", "boot 602", "ignore x-*", "last_resort -", f"new {NEW}"} <= set(order)


async def test_goal_is_that_of_the_plan(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    world.on("a", (asks("watch"), [SWITCHED, said(state="tested", running=NEW)]))
    result = await world.apply(world.plan(("a",), parts={"a": world.part("a", goal=Goal.TEST)}, goal=Goal.TEST))
    assert (found(result), result.hosts[0].boot_default, "goal test" in world.orders("a")) == ({"a": KEPT}, False, True)


async def test_waves_are_those_of_the_plan(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a", "b", more="[[rollout.waves]]\nhosts = 'a'")
    await world.apply(world.plan(("b",), ("a",)))
    assert [one.hosts for one in world.events.of(WaveStarted)] == [(B,), (A,)]


@pytest.mark.parametrize("at_once", [1, 2])
async def test_so_many_at_once_as_the_plan_says(tmp_path: Path, at_once: int) -> None:
    world, pushed = Applying(tmp_path, "a", "b", "c", more="[rollout]\nat_once = 3"), AtOnce()
    for name, link in world.links.items():
        world.on(name, (asks("root"), Says(seconds=0.05)))
        link.run = pushed.counting(asks("root"), link.run)  # type: ignore[method-assign]
    await world.apply(world.plan(("a", "b", "c"), at_once=at_once))
    assert pushed.most == at_once


@pytest.mark.parametrize(("allowed", "second"), [(0, SKIPPED), (1, KEPT)])
async def test_so_many_may_end_badly_as_the_plan_says(tmp_path: Path, allowed: int, second: Outcome) -> None:
    world = Applying(tmp_path, "a", "b", more=f"[rollout]\nmax_failures = {1 - allowed}")
    world.on("a", (asks("begin"), said(refused="quarantined", message="bad")))
    result = await world.apply(world.plan(("a", "b"), at_once=1, max_failures=allowed))
    assert found(result) == {"a": FAILED, "b": second}


async def test_address_and_login_are_those_of_the_file(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a", more="address = 'here'\nuser = 'ann'")
    await world.apply(world.plan(("a",)))
    assert (world.logins.connected > 0, world.links[A].host.address, world.links[A].host.user) == (
        True, ("here",), "ann",
    )  # fmt: skip


async def test_part_of_a_plan_is_applied_alone(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a", "b")
    result = await world.apply(world.plan(("a",), ("b",)), "b")
    assert (found(result), world.links[A].ran) == ({"b": KEPT}, [])


async def test_plan_is_recorded_with_the_run(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    plan = world.plan(("a",))
    result = await world.apply(plan)
    assert [(record.id, record.plan, record.exit_code) for record in world.state.runs()] == [
        (result.run, plan.digest, 0)
    ]  # fmt: skip
    assert Plan.parse(world.state.plan(plan.digest)) == plan


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fleet": "work"}, "the plan is for the fleet work, and .* is of home"),
        ({"expires": int(time.time()) - 1}, "the plan expired at "),
        (
            {"made": int(time.time()) + 90_000, "expires": int(time.time()) + 180_000},
            "the plan was made at .*, which is to come: a clock is wrong",
        ),
        ({"hosts": ("a", "x", "y")}, "has no host x, y, which the plan is for"),
    ],
)
async def test_plan_that_does_not_belong_here_is_refused_and_nothing_asked(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    world = Applying(tmp_path, "a")
    plan = world.plan(changes.pop("hosts", ("a",)), **changes)
    async with world.fleet() as fleet:
        with pytest.raises(ConfigError, match=told):
            fleet.apply(plan)
    assert (world.links[A].ran, world.here.ran, world.state.runs()) == ([], [], [])


async def test_whatever_is_asked_of_a_plan_for_a_host_that_is_gone_has_the_same_clear_answer(tmp_path: Path) -> None:
    """A host was taken out of fleet.toml since the plan was made."""
    world = Applying(tmp_path, "a")
    plan = world.plan(("a", "x"))
    async with world.fleet() as fleet:
        for asking in (
            fleet.judge(plan),
            fleet.strays(plan, plan.hosts),
            fleet.require_allowed(plan),
            fleet.examine(plan),
            fleet.compare(plan),
            fleet.withdraw(plan, on_wait=ignore),
        ):
            with pytest.raises(ConfigError, match=r"fleet\.toml: has no host x, which the plan is for"):
                await asking
        assert await fleet.judge(plan, A) is None  # it is there, and so is what the plan brings it
    assert world.links[A].ran == []


async def test_closure_that_is_not_here_and_cannot_be_had_is_told_and_nothing_asked(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    world.here_too((VALID, Output(status=0, stdout=f"{NEW}\n")))
    result = await world.apply(world.plan(("a",)))
    assert (result.exit_code, found(result), world.links[A].ran) == (2, {"a": SKIPPED}, [])
    assert result.error is not None
    assert "is not in this machine's store, and cannot be fetched or built" in result.error.message


async def test_closure_that_is_not_here_is_fetched_or_built(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    world.here_too((runs("nix-store", "--realise", "--keep-going"), [BROKEN, Output(status=0)]))
    result = await world.apply(world.plan(("a",), parts={"a": world.part("a", derivation=DRV)}))
    assert found(result) == {"a": KEPT}
    assert [one for command in world.here.ran for one in (NEW, DRV) if one in command.argv][:2] == [NEW, DRV]


async def test_what_a_host_builds_itself_is_not_built_here(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a", "b")
    world.on("a", (runs("nix-store", "--realise"), Output(status=0)), (runs("sh", "-c"), said(platform="x86_64-linux")))
    part = world.part("a", derivation=DRV, build_on=BuildOn.TARGET, manifest="")
    assert found(await world.apply(world.plan(("a", "b"), parts={"a": part}), "a")) == {"a": KEPT}
    realised = [command for command in world.here.ran if runs("nix-store", "--realise")(command)]
    assert [command for command in realised if DRV in command.argv] == []


async def test_what_a_host_builds_itself_has_to_be_evaluated_here(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    world.here_too((VALID, Output(status=0, stdout=f"{DRV}\n")))
    part = world.part("a", derivation=DRV, build_on=BuildOn.TARGET, manifest="")
    result = await world.apply(world.plan(("a",), parts={"a": part}))
    assert (result.exit_code, world.links[A].ran) == (2, [])
    assert result.error is not None
    assert DRV in result.error.message


async def test_closure_that_was_built_otherwise_here_is_not_pushed(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    result = await world.apply(world.plan(("a",), parts={"a": world.part("a", manifest="0" * 64)}))
    assert (result.exit_code, world.links[A].ran) == (2, [])
    assert result.error is not None
    assert "are not those that were planned" in result.error.message


async def test_closure_that_ran_before_has_to_be_nowhere_but_on_its_host(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    world.here_too((runs("nix-store", "--realise"), BROKEN))
    plan = world.plan(("a",), parts={"a": world.part("a", manifest="")}, verb=Verb.ROLLBACK)
    assert found(await world.apply(plan)) == {"a": KEPT}


@pytest.mark.parametrize(("planned", "outcome"), [("SHA256:" + "1" * 43, FAILED), ("SHA256:" + "0" * 43, KEPT)])
async def test_host_with_another_key_is_not_the_host_of_the_plan(
    tmp_path: Path, planned: str, outcome: Outcome
) -> None:
    world = Applying(tmp_path, "a")
    result = await world.apply(world.plan(("a",), parts={"a": world.part("a", host_key=planned)}))
    assert (found(result), world.began()) == ({"a": outcome}, ["a"] if outcome is KEPT else [])
    assert kinds(result) == ({} if outcome is KEPT else {"a": "host_key"})


async def test_plan_of_elsewhere_does_not_reboot_this_machine(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    world.links[A].is_here = True
    part = world.part("a", goal=Goal.BOOT, accept_boot_risk=True, force=True)
    result = await world.apply(world.plan(("a",), parts={"a": part}))
    assert (kinds(result), world.began()) == ({"a": "unfit"}, [])


@pytest.mark.parametrize("changes", [{"serial": "42-b"}, {"link": "system-8-link@7"}, {"running": OLDER}])
async def test_host_that_has_changed_since_is_stale_and_gets_nothing(tmp_path: Path, changes: dict[str, str]) -> None:
    world = Applying(tmp_path, "a", "b")
    world.has_changed("a", **{"serial": "41-a", "link": "system-7-link@1", **changes})
    world.on("a", (asks("history"), said(history=[ENTRY])))
    part = world.part("a", serial=Serial("41-a"), link="system-7-link@1")
    result = await world.apply(world.plan(("a", "b"), parts={"a": part}))
    assert (result.exit_code, found(result), kinds(result)) == (1, {"a": FAILED, "b": KEPT}, {"a": "stale"})
    failure = result.hosts[0].failure
    assert failure is not None
    assert [line.partition(" run ")[2] for line in failure.said] == [
        f"r9 of bob from train: {OLD} -> {OLDER}, committed (by hand)"
    ]
    assert "plan again" in failure.hint
    link = world.links[A]
    assert asked("history", link.ran) == [("41-a",)]
    assert (asked("root", link.ran), asked("begin", link.ran), link.bridges) == ([], [], [])
    assert [(one.host, one.kind) for one in world.events.of(FindingReported)] == [("a", "stale")]


async def test_host_that_changes_after_it_was_looked_at_refuses_by_itself(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    world.on("a", (asks("begin"), said(refused="stale", message="another ran meanwhile", history=[ENTRY])))
    result = await world.apply(world.plan(("a",)))
    assert (result.exit_code, kinds(result)) == (1, {"a": "stale"})
    assert result.hosts[0].failure is not None
    assert len(result.hosts[0].failure.said) == 1


async def test_closure_that_was_found_bad_since_is_not_tried(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a", "b")
    for name in world.links:
        world.has_changed(name, quarantined=NEW)
    allowed = world.part("b", retry_quarantined=True)
    result = await world.apply(world.plan(("a", "b"), parts={"b": allowed}))
    assert (found(result), kinds(result)) == ({"a": FAILED, "b": KEPT}, {"a": "quarantined"})


# --- applied before --------------------------------------------------------------------------------


def last(part: Part, **changes: object) -> dict[str, object]:
    """What a host says whose last transaction was of this part."""
    said = {
        "last_run": "r8", "last_state": "committed", "last_new": NEW, "last_old": OLD, "last_part": part.digest,
        "last_serial": "42-b", "serial": "42-b",
    }  # fmt: skip
    return {**said, **changes}


STANDS: dict[str, object] = dict.fromkeys(("running", "profile", "boot_default"), NEW)


@pytest.mark.parametrize(
    ("changes", "outcome", "kind", "code"),
    [
        (STANDS, KEPT, None, 0),
        ({**STANDS, "last_state": "tested", "profile": OLD, "boot_default": OLD}, KEPT, None, 0),
        ({"last_state": "reverted", "last_blame": "found", "last_reason": "web: 503"}, BACK, "unhealthy", 1),
        ({"last_state": "superseded"}, FAILED, "superseded", 1),
        ({"last_state": "stuck"}, Outcome.NEEDS_HUMAN, "stuck", 4),
    ],
)
async def test_outcome_of_a_plan_that_was_applied_before_is_the_answer(
    tmp_path: Path, changes: dict[str, object], outcome: Outcome, kind: str | None, code: int
) -> None:
    world = Applying(tmp_path, "a")
    plan = world.plan(("a",))
    world.has_changed("a", **last(plan.parts[A], **changes))
    result = await world.apply(plan)
    assert (result.exit_code, found(result), kinds(result).get("a")) == (code, {"a": outcome}, kind)
    assert [asks("facts")(command) for command in world.links[A].ran] == [True]
    assert "this very plan was applied there before" in " ".join(
        [*result.hosts[0].notes, *(failure.message for failure in [result.hosts[0].failure] if failure)]
    )


@pytest.mark.parametrize(
    ("changes", "is_default"),
    [(STANDS, True), ({**STANDS, "last_state": "tested", "profile": OLD, "boot_default": OLD}, False)],
)
async def test_outcome_of_before_tells_what_boots_next(
    tmp_path: Path, changes: dict[str, object], *, is_default: bool
) -> None:
    world = Applying(tmp_path, "a")
    plan = world.plan(("a",))
    world.has_changed("a", **last(plan.parts[A], **changes))
    assert (await world.apply(plan)).hosts[0].boot_default is is_default


async def test_plan_that_went_back_for_silence_begins_again(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    plan = world.plan(("a",))
    world.has_changed("a", **last(plan.parts[A], last_state="reverted", last_blame="silent"))
    assert (found(await world.apply(plan)), world.began()) == ({"a": KEPT}, ["a"])


@pytest.mark.parametrize(
    "state", [{"last_state": "committed"}, {"last_state": "tested"}, {"last_state": "reverted", "last_blame": "silent"}]
)
async def test_plan_that_was_applied_before_and_undone_by_hand_since_is_stale(
    tmp_path: Path, state: dict[str, str]
) -> None:
    """A switch by hand opens no transaction: the newest one is still of this plan."""
    world = Applying(tmp_path, "a")
    plan = world.plan(("a",))
    by_hand = dict.fromkeys(("running", "profile", "boot_default"), OLDER)
    world.has_changed("a", **last(plan.parts[A], **by_hand, **state))
    world.on("a", (asks("history"), said()))
    result = await world.apply(plan)
    assert (found(result), kinds(result), world.began()) == ({"a": FAILED}, {"a": "stale"}, [])


async def test_another_transaction_since_then_makes_it_stale(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    plan = world.plan(("a",))
    world.has_changed("a", **last(plan.parts[A], last_state="reverted", last_blame="silent", serial="43-c"))
    world.on("a", (asks("history"), said()))
    assert kinds(await world.apply(plan)) == {"a": "stale"}


async def test_plan_that_another_run_applies_at_the_same_time_has_its_outcome(tmp_path: Path) -> None:
    """It had not begun when this run looked, and has ended when this run would begin."""
    world = Applying(tmp_path, "a")
    plan = world.plan(("a",))
    ended = said(**FACTS | last(plan.parts[A], **STANDS))
    world.on("a", (asks("facts"), [said(**FACTS), ended]), (asks("begin"), said(refused="ended", state="committed")))
    result = await world.apply(plan)
    assert (found(result), result.hosts[0].notes) == ({"a": KEPT}, ("this very plan was applied there before",))
    assert len(asked("unroot", world.links[A].ran)) == 1
    assert asked("watch", world.links[A].ran) == []


async def test_plan_that_another_run_applied_and_somebody_undid_meanwhile_is_stale(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    plan = world.plan(("a",))
    undone = said(**FACTS | last(plan.parts[A]) | dict.fromkeys(("running", "profile", "boot_default"), OLDER))
    world.on("a", (asks("facts"), [said(**FACTS), undone]), (asks("begin"), said(refused="ended", state="committed")))
    world.on("a", (asks("history"), said(history=[ENTRY])))
    result = await world.apply(plan)
    assert (kinds(result), asked("history", world.links[A].ran)) == ({"a": "stale"}, [("0-none",)])


# --- all or nothing --------------------------------------------------------------------------------


async def test_all_or_nothing_is_nothing_where_one_host_has_changed(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a", "b")
    world.has_changed("a", serial="42-b")
    world.on("a", (asks("history"), said()))
    result = await world.apply(world.plan(("a",), ("b",), all_or_nothing=True))
    assert (result.exit_code, found(result), world.began()) == (1, {"a": FAILED, "b": SKIPPED}, [])
    failure = result.hosts[1].failure
    assert failure is not None
    assert failure.message == "all or nothing, and a cannot take part"


async def test_all_or_nothing_is_nothing_where_one_host_cannot_be_reached(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a", "b")
    world.links[B].is_lost = True
    result = await world.apply(world.plan(("a",), ("b",), all_or_nothing=True))
    assert (found(result), world.began()) == ({"a": SKIPPED, "b": FAILED}, [])


async def test_all_or_nothing_goes_on_where_one_host_has_it_already(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a", "b")
    plan = world.plan(("a",), ("b",), all_or_nothing=True)
    world.has_changed("a", **last(plan.parts[A], **STANDS))
    assert (found(await world.apply(plan)), world.began()) == ({"a": KEPT, "b": KEPT}, ["b"])


# --- taken up --------------------------------------------------------------------------------------


async def test_run_is_taken_up_with_the_checks_of_its_plan(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    plan = world.plan(("a",), parts={"a": world.part("a", checks=(OK,))})
    run = RunId("20261120T042211-3fa9c1d2")
    world.state.keep_plan(plan.digest, plan.text, expires=plan.expires)
    envelopes = Envelopes(run, "ann")
    started = RunStarted(run=run, verb=Verb.DEPLOY, goal=Goal.SWITCH, hosts=(A,), watch=0.0, strict=False)
    with world.state.hold(run), world.state.recorder(run, plan=plan.digest) as recorder:
        recorder.record(envelopes.wrap(started))
        recorder.record(envelopes.wrap(PhaseStarted(host=A, phase=Phase.SWITCH)))
    held = {"open_run": run, "open_state": "switched", "open_new": NEW, "open_old": OLD}
    world.on("a", (asks("facts"), said(**FACTS | held)), (runs("sh", "-c", "ok"), Output(status=1)))
    async with world.fleet() as fleet:
        await fleet.resume(await fleet.open_run())
    (word,) = [word for _, word, *_ in asked("word", world.links[A].ran)]
    assert word.startswith("abandon")
