"""One run from its first event to its last, with fake hosts and a fake Nix."""

from __future__ import annotations

import base64
import errno
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import AuthenticationError, CommandFailedError
from fleet.events import (
    BuildFinished,
    Envelopes,
    EvaluationFinished,
    FindingReported,
    HostPlanned,
    HostSwitched,
    PushFinished,
    RunInterrupted,
    RunStarted,
)
from fleet.machine import Output
from fleet.model import Closure, Goal, HostName, Outcome, Reboot, RunId, Severity, Verb
from fleet.scripts import script
from fleet.source.git import LISTS
from tests.fakes import Says, asks, runs, said
from tests.unit.builders import NEW
from tests.unit.world import BROKEN, FACTS, OLDER, VALID, YES, World

if TYPE_CHECKING:
    from pathlib import Path

KEPT, FAILED, SKIPPED, UNCHANGED = Outcome.KEPT, Outcome.FAILED, Outcome.SKIPPED, Outcome.UNCHANGED


async def test_good_run(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    assert await world.execute() == 0
    assert world.outcomes == {"a": KEPT, "b": KEPT}
    assert isinstance(world.events[0], RunStarted)
    assert (world.agreed, world.end.error) == ([True], None)
    assert [type(event) for event in world.events if isinstance(event, EvaluationFinished | BuildFinished)] == [
        EvaluationFinished, BuildFinished,
    ]  # fmt: skip
    plans = world.events.of(HostPlanned)
    assert [(plan.host, plan.action, plan.wave, plan.missing_bytes) for plan in plans] == [
        ("a", "switch", 1, 100), ("b", "switch", 1, 100),
    ]  # fmt: skip


async def test_what_would_not_fit_is_refused_before_its_first_byte(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("facts"), said(**FACTS | {"nix_free": 70 << 20})))
    (world.closure / "big").write_bytes(b"")
    os.truncate(world.closure / "big", 50 << 20)
    assert await world.execute() == 1
    (end,) = world.end.hosts
    assert end.failure is not None
    assert (end.failure.kind, "MiB on /nix, 70 MiB are free" in end.failure.message) == ("unfit", True)
    assert (world.agreed, world.links[HostName("a")].bridges) == ([], [])


def remember_speeds(world: World, speeds: dict[str, float]) -> None:
    """Earlier pushes to the hosts were so fast, in bytes a second."""
    run, size = RunId("20200101T000000-000000"), 1 << 20
    envelopes = Envelopes(run, "ann")
    names = tuple(map(HostName, speeds))
    started = RunStarted(run=run, verb=Verb.PUSH, goal=Goal.SWITCH, hosts=names, watch=0.0, strict=False)
    with world.state.hold(run), world.state.recorder(run) as recorder:
        recorder.record(envelopes.wrap(started))
        for name in names:
            seconds = size / speeds[name]
            pushed = PushFinished(host=name, paths=1, nar_bytes=size, wire_bytes=size, seconds=seconds)
            recorder.record(envelopes.wrap(pushed))


async def test_plan_tells_what_the_push_takes(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", more="[rollout]\nbandwidth = '1kB/s'", verb="plan")
    remember_speeds(world, {"a": 100.0, "b": 5000.0})
    assert await world.execute() == 0
    for planned, speed in zip(world.events.of(HostPlanned), (100, 1000), strict=True):
        assert planned.wire_bytes > 100
        assert planned.push_seconds == pytest.approx(planned.wire_bytes / speed, rel=1e-3)
        assert 32 << 20 < planned.room_needed < planned.room_free


async def test_slow_link_is_planned_with_what_will_cross_it(tmp_path: Path) -> None:
    wires = []
    for keys in ("link = 'slow'", "link = 'fast'"):
        world = World(tmp_path / keys[-5:-1], "a", verb="plan", more=keys, copy_with="serve")
        assert await world.execute() == 0
        wires.append(world.events.of(HostPlanned)[0].wire_bytes)
    assert wires[0] == 200 + 35  # announced, and compressed by the third that is usual
    assert wires[1] > 300
    nix = World(tmp_path / "with", "a", verb="plan", more="link = 'slow'")
    assert await nix.execute() == 0
    assert nix.events.of(HostPlanned)[0].wire_bytes == wires[1]


@pytest.mark.parametrize("build_on", ["controller", "target"])
async def test_slow_link_to_a_host_that_cannot_read_what_is_compressed_is_told(tmp_path: Path, build_on: str) -> None:
    world = World(tmp_path, "a", verb="plan", more=f"link = 'slow'\nbuild_on = '{build_on}'", copy_with="serve")
    world.on("a", (asks("facts"), said(**FACTS | {"has_zstd": ""})))
    assert await world.execute() == 0
    assert [one.kind for one in world.events.of(FindingReported)] == ["slow_link"]


async def test_closure_that_was_found_bad_is_not_pushed_again(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("facts"), said(**FACTS | {"quarantined": world.closure})))
    assert await world.execute() == 1
    (end,) = world.end.hosts
    assert end.failure is not None
    assert (end.failure.kind, world.links[HostName("a")].bridges) == ("quarantined", [])


@pytest.mark.parametrize(
    ("asked", "outcome"),
    [
        ({}, FAILED),
        ({"goal": Goal.TEST}, FAILED),
        ({"verb": "push"}, Outcome.STAGED),
        ({"goal": Goal.DRY_ACTIVATE}, Outcome.STAGED),
    ],
)
@pytest.mark.parametrize("bad", ["inhibited", "quarantined"])
async def test_closure_that_a_host_must_not_switch_to_now_may_still_be_brought_to_it(
    tmp_path: Path, asked: dict[str, Any], outcome: Outcome, bad: str
) -> None:
    world = World(tmp_path, "a", **asked)
    (world.closure / "init-interface-version").write_text("3")
    there = {"quarantined": world.closure} if bad == "quarantined" else {"init_interface": "2"}
    world.on("a", (asks("facts"), said(**FACTS | there)))
    world.on("a", (runs(f"{world.closure}/bin/switch-to-configuration"), YES))
    await world.execute()
    assert (world.outcomes, world.began()) == ({"a": outcome}, [])


async def test_links_keep_to_what_the_file_allows(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", more="bandwidth = '50kB/s'\n[hosts.c]\nbandwidth = '1kB/s'\n[hosts.d]")
    assert await world.execute() == 0
    found = {name: link.bridges[0].pace for name, link in world.links.items()}
    assert [pace.portion if pace else None for pace in found.values()] == [1024, 5000, 5000, 5000]
    together = World(tmp_path / "2", "a", "b", more="[rollout]\nbandwidth = '50kB/s'")
    assert await together.execute() == 0
    first, second = (link.bridges[0].pace for link in together.links.values())
    assert first is second is not None


@pytest.mark.parametrize(("verb", "signs"), [("deploy", True), ("push", True), ("plan", False), ("rollback", False)])
async def test_closures_are_signed_before_they_are_pushed(tmp_path: Path, verb: str, signs: bool) -> None:  # noqa: FBT001
    secret = base64.b64encode(bytes(64)).decode()
    (tmp_path / "key").write_text(f"home-1:{secret}")
    world = World(tmp_path, "a", verb=verb, back_to="2" if verb == "rollback" else None)
    world.inventory = world.inventory.model_copy(update={"signing_key": tmp_path / "key"})
    world.on("a", (lambda command: "show-config" in str(command), said(store="auto")))
    world.on("a", (lambda command: "readlink" in str(command), said(platform="x86_64-linux")))
    await world.execute()
    signed = [str(world.closure) in command.argv for command in world.here.ran if "sign" in command.argv]
    assert signed == [True] * signs
    notes = [finding.kind for finding in world.events.of(FindingReported) if finding.kind == "signature"]
    assert notes == ([] if verb == "rollback" else ["signature"])
    assert secret not in "".join(map(str, world.events))


async def test_key_that_cannot_be_read_is_exit_code_2_and_no_host_is_asked(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.inventory = world.inventory.model_copy(update={"signing_key": tmp_path / "nowhere"})
    assert await world.execute() == 2
    assert world.links[HostName("a")].ran == []


async def test_nothing_changes_before_everything_is_built(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    nothing_there = Output(status=0, stdout=f"{world.closure}\n")
    world.here_too((runs("nix-store", "--realise"), BROKEN), (VALID, nothing_there))
    assert await world.execute() == 3
    assert world.outcomes == {"a": SKIPPED, "b": SKIPPED}
    assert world.end.error is not None
    assert (world.end.error.kind, world.agreed) == ("build", [])
    assert all(asks("facts")(command) for link in world.links.values() for command in link.ran)


async def test_host_that_stands_on_the_closure_is_unchanged_and_nobody_is_asked(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.wanted = NEW
    world.on("a", (asks("facts"), said(**FACTS | {"running": NEW, "profile": NEW, "boot_default": NEW})))
    assert await world.execute() == 0
    assert world.outcomes == {"a": UNCHANGED}
    assert (world.agreed, len(world.links[HostName("a")].ran)) == ([], 1)
    assert [plan.action for plan in world.events.of(HostPlanned)] == ["unchanged"]


async def test_reboot_of_a_host_that_stands_on_the_closure_is_said_not_to_happen(tmp_path: Path) -> None:
    world = World(tmp_path, "a", reboot=Reboot.ALWAYS)
    world.wanted = NEW
    world.on("a", (asks("facts"), said(**FACTS | {"running": NEW, "profile": NEW, "boot_default": NEW})))
    assert await world.execute() == 0
    assert world.outcomes == {"a": UNCHANGED}
    assert [found.kind for found in world.events.of(FindingReported)] == ["not_rebooted"]


async def test_host_that_fails_preflight_fails_alone(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    world.links[HostName("a")].is_lost = True
    assert await world.execute() == 1
    assert world.outcomes == {"a": FAILED, "b": KEPT}
    assert [finding.kind for finding in world.events.of(FindingReported)] == ["unreachable"]


async def test_all_or_nothing_is_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", all_or_nothing=True)
    world.on("a", (asks("facts"), said(**FACTS | {"nix": ""})))
    assert await world.execute() == 1
    assert world.outcomes == {"a": FAILED, "b": SKIPPED}
    assert not [command for command in world.here.ran if runs("nix-store")(command)]


async def test_unreachable_host_that_may_be_is_deferred(tmp_path: Path) -> None:
    world = World(tmp_path, "a", more="kind = 'laptop'")
    world.links[HostName("a")].is_lost = True
    assert await world.execute() == 0
    assert world.outcomes == {"a": Outcome.DEFERRED}
    (found,) = world.events.of(FindingReported)
    assert (found.severity, "fleet deliver brings what waits for it" in found.hint) == (Severity.NOTE, True)
    (ended,) = world.end.hosts
    assert ended.failure is not None
    assert ended.failure.hint == found.hint


async def test_run_whose_hosts_have_ended_ends_though_nix_says_nothing_of_what_waits(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", more="kind = 'laptop'")
    world.links[HostName("b")].is_lost = True
    late = CommandFailedError(HostName("controller"), "nix-store did not end within 60 s")
    world.here_too((lambda command: "/deliveries/" in str(command), late))
    async with world.fleet() as fleet:
        run = fleet.apply(await fleet.plan(verb=Verb.DEPLOY, copy_with="nix", eval_cache=False))
        done = await run
        assert done.unrecorded.endswith("b: what waits for a host cannot be rooted: nix-store did not end within 60 s")
        assert (done.exit_code, "a" in await fleet.last_seen()) == (0, True)


@pytest.mark.parametrize("options", [{"verb": "push"}, {"goal": "test"}])
async def test_only_what_is_delivered_later_is_said_to_be(tmp_path: Path, options: dict[str, Any]) -> None:
    world = World(tmp_path, "a", more="kind = 'laptop'", **options)
    world.links[HostName("a")].is_lost = True
    await world.execute()
    assert not any("fleet deliver" in found.hint for found in world.events.of(FindingReported))


async def test_locked_hosts_are_exit_code_5(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    for name in ("a", "b"):
        world.on(name, (asks("facts"), said(**FACTS, open_run="r9", open_who="bob", open_state="switched")))
    assert await world.execute() == 5
    assert {one.failure.kind for one in world.end.hosts if one.failure} == {"locked"}


async def test_evaluation_that_fails_stops_everything(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    world.here_too((lambda command: '"a" = ' in "".join(command.argv), BROKEN))
    assert await world.execute() == 3
    assert world.outcomes == {"a": SKIPPED, "b": SKIPPED}


async def test_evaluation_that_fails_costs_only_its_host_when_the_run_keeps_going(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", keep_going=True)
    world.here_too((lambda command: '"a" = ' in "".join(command.argv), BROKEN))
    assert await world.execute() == 1
    assert world.outcomes == {"a": FAILED, "b": KEPT}


async def test_evaluation_that_fails_for_all_is_exit_code_3(tmp_path: Path) -> None:
    world = World(tmp_path, "a", keep_going=True)
    world.here_too((runs("nix"), BROKEN))
    assert await world.execute() == 3


async def test_no_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    world.answer = False
    assert await world.execute() == 1
    assert (world.outcomes, world.began()) == ({"a": SKIPPED, "b": SKIPPED}, [])


async def test_plan_changes_nothing_and_asks_nobody(tmp_path: Path) -> None:
    world = World(tmp_path, "a", verb="plan")
    assert await world.execute() == 0
    assert (world.agreed, world.began(), len(world.events.of(HostPlanned))) == ([], [], 1)


async def test_waves_go_one_after_another_and_stop_at_a_failure(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", more="[[rollout.waves]]\nhosts = 'b'")
    world.on("b", (asks("begin"), said(refused="quarantined", message="x")))
    assert await world.execute() == 1
    assert world.outcomes == {"a": SKIPPED, "b": FAILED}
    assert [(plan.host, plan.wave) for plan in world.events.of(HostPlanned)] == [("b", 1), ("a", 2)]


async def test_closure_that_was_built_elsewhere_is_not_evaluated(tmp_path: Path) -> None:
    world = World(tmp_path, "a", closure=NEW)
    world.here_too((VALID, Output(status=0, stdout=f"{NEW}\n")))
    assert await world.execute() == 2
    assert world.end.error is not None
    assert "not in this machine's store" in world.end.error.message


@pytest.mark.parametrize("given", ["./result", "/tmp/x"])
async def test_closure_that_is_no_store_path_is_refused(tmp_path: Path, given: str) -> None:
    world = World(tmp_path, "a", closure=Closure(given))
    assert await world.execute() == 2


@pytest.mark.parametrize(("back_to", "closure"), [(None, OLDER), ("2", NEW), (NEW, NEW)])
async def test_rollback_goes_where_it_should(tmp_path: Path, back_to: str | None, closure: str) -> None:
    world = World(tmp_path, "a", verb="rollback", back_to=back_to)
    world.on(
        "a",
        (asks("look"), said(state="switched", running=closure)),
        (lambda command: "readlink" in str(command), said(platform="x86_64-linux", part_kernel="/nix/store/k2")),
        (runs("xargs"), YES),
    )
    assert await world.execute() == 0
    assert world.end.hosts[0].reboot_pending
    assert (world.end.hosts[0].closure, world.end.hosts[0].outcome) == (closure, KEPT)
    assert "a second fleet rollback goes forward again" in world.end.hosts[0].notes


async def test_deployment_says_nothing_of_going_forward_again(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    assert await world.execute() == 0
    assert not any("forward" in note for note in world.end.hosts[0].notes)


SPECIALISATION = runs("sh", "-c", script("fleet.steps", "specialisation"))


@pytest.mark.parametrize(("name", "told"), [("gaming", ["specialisation"]), ("", [])])
async def test_leaving_a_specialisation_is_told(tmp_path: Path, name: str, told: list[str]) -> None:
    world = World(tmp_path, "a")
    world.on(
        "a",
        (asks("facts"), said(**FACTS | {"running": OLDER})),
        (SPECIALISATION, Output(status=0, stdout=f"{name}\n")),
    )
    assert await world.execute() == 0
    assert [found.kind for found in world.events.of(FindingReported)] == told
    if told:
        assert "runs the specialisation gaming, and leaves it" in world.events.of(FindingReported)[0].message


def test_specialisation_that_runs_is_found(tmp_path: Path) -> None:
    base, other = tmp_path / "base", tmp_path / "other system"
    (base / "specialisation").mkdir(parents=True)
    other.mkdir()
    for name, place in (("work", base), ("gaming", other)):
        (base / "specialisation" / name).symlink_to(place)
    for running, name in ((other, "gaming\n"), (tmp_path, "")):
        argv = ["sh", "-eu", "-c", script("fleet.steps", "specialisation"), "sh", str(base), str(running)]
        assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == name
    argv = ["sh", "-eu", "-c", script("fleet.steps", "specialisation"), "sh", str(other), str(other)]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == ""


@pytest.mark.parametrize(("reboot", "code"), [("always", 1), ("if-needed", 0), ("never", 0)])
async def test_reboot_into_what_runs_already_is_refused_and_not_kept_without(
    tmp_path: Path, reboot: str, code: int
) -> None:
    world = World(tmp_path, "a", verb="rollback", back_to=str(NEW), reboot=Reboot(reboot))
    world.on(
        "a",
        (asks("facts"), said(**FACTS | {"running": NEW})),
        (SPECIALISATION, YES),
        (lambda command: "readlink" in str(command), said(platform="x86_64-linux")),
        (runs("xargs"), YES),
        (asks("look"), said(state="switched", running=NEW)),
    )
    assert await world.execute() == code
    if code:
        assert (world.began(), world.outcomes) == ([], {"a": FAILED})
        assert world.end.hosts[0].failure is not None
        assert "runs this system already" in world.end.hosts[0].failure.message


@pytest.mark.parametrize(("back_to", "code"), [("nonsense", 2), (str(NEW), 1)])
async def test_rollback_to_what_is_no_closure_of_the_host_is_refused(tmp_path: Path, back_to: str, code: int) -> None:
    world = World(tmp_path, "a", verb="rollback", back_to=back_to)
    world.on("a", (runs("xargs"), Output(status=0, stdout=f"{NEW}\n")))
    assert (await world.execute(), world.began()) == (code, [])


async def test_rollback_to_what_is_not_there_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", verb="rollback", back_to="7")
    world.on("b", (asks("facts"), said(**FACTS | {"previous": ""})))
    assert await world.execute() == 1
    failure = world.end.hosts[0].failure
    assert failure is not None
    assert (failure.message, failure.hint) == ("there is no generation 7", "there are: 1, 2")
    nowhere = World(tmp_path / "2", "a", verb="rollback")
    nowhere.on("a", (asks("facts"), said(**FACTS | {"previous": ""})))
    assert await nowhere.execute() == 1


async def test_dry_activation_stages(tmp_path: Path) -> None:
    world = World(tmp_path, "a", goal=Goal.DRY_ACTIVATE)
    world.on("a", (runs(f"{world.closure}/bin/switch-to-configuration"), YES))
    assert await world.execute() == 0
    assert world.outcomes == {"a": Outcome.STAGED}


@pytest.mark.parametrize("query", ["", "?dir=x"])
async def test_file_that_evaluation_would_read_and_nix_does_not_see_is_noted_of_no_host(
    tmp_path: Path, query: str
) -> None:
    world = World(tmp_path, "a", "b")
    world.inventory = world.inventory.model_copy(update={"flake": f"{tmp_path}{query}"})
    command = (*LISTS, "-C", str(tmp_path))
    world.here_too(
        (runs(*command, "rev-parse"), Output(status=0, stdout=f"{tmp_path}\n")),
        (runs(*command, "ls-files", "-z", "--others"), Output(status=0, stdout="new.nix\0notes.txt\0")),
        (runs(*command, "ls-files", "-z"), Output(status=0, stdout="flake.nix\0")),
    )
    assert await world.execute() == 0
    (note,) = world.events.of(FindingReported)
    assert (note.host, note.kind, note.severity) == (None, "untracked", Severity.NOTE)
    assert note.hint.startswith("git add new.nix")


async def test_bug_still_has_a_last_event(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.here_too((runs("nix"), ZeroDivisionError("oops")))
    assert await world.execute() == 1
    assert world.end.error is not None
    assert any("ZeroDivisionError" in line for line in world.end.error.said)


async def test_program_that_cannot_be_stored_stops_the_run(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.here_too((runs("nix-store", "--add"), BROKEN))
    assert await world.execute() == 1
    assert (world.outcomes, world.began()) == ({"a": SKIPPED}, [])


@pytest.mark.parametrize("asked", [{"verb": "push"}, {"goal": Goal.DRY_ACTIVATE}])
async def test_plan_of_what_is_only_pushed_says_so(tmp_path: Path, asked: dict[str, Any]) -> None:
    world = World(tmp_path, "a", **asked)
    world.on("a", (runs(str(world.closure / "bin/switch-to-configuration")), YES))
    assert await world.execute() == 0
    assert [plan.action for plan in world.events.of(HostPlanned)] == ["push"]
    assert world.outcomes == {"a": Outcome.STAGED}


async def test_trouble_with_this_machine_s_own_files_is_no_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, "a")

    def full(**_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/fleet-x")

    monkeypatch.setattr("fleet.steps.program.tempfile.mkdtemp", full)
    assert await world.execute() == 1
    assert world.end.error is not None
    assert (world.end.error.message, world.began()) == ("this machine: /tmp/fleet-x: No space left on device", [])


async def test_interrupt_before_the_plan_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.acts = {RunStarted: world.stop.request}
    world.here_too((runs("nix"), Says(seconds=60)))
    assert await world.execute() == 130
    assert (world.outcomes, world.began()) == ({"a": SKIPPED}, [])


async def test_interrupt_lets_hosts_that_switch_go_to_their_end(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b", more="[rollout]\nat_once = 1")
    world.acts = {HostSwitched: world.stop.request}
    assert await world.execute() == 130
    assert (world.outcomes, len(world.events.of(RunInterrupted))) == ({"a": KEPT, "b": SKIPPED}, 1)


async def test_second_interrupt_leaves_hosts_in_doubt(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("look"), Says(seconds=60)))
    world.acts = {HostSwitched: world.stop.request, RunInterrupted: world.stop.request}
    assert await world.execute() == 4
    assert world.outcomes == {"a": Outcome.NEEDS_HUMAN}
    assert world.end.hosts[0].failure is not None
    assert "fleet resume" in world.end.hosts[0].failure.hint


async def test_login_that_is_refused_is_told_with_its_remedy(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.on("a", (asks("facts"), AuthenticationError(HostName("a"), "login refused", hint="ssh-add")))
    assert await world.execute() == 1
    assert [(one.kind, one.hint) for one in world.events.of(FindingReported)] == [("authentication", "ssh-add")]
