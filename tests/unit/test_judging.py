"""What a policy does to deployments, rollbacks, reboots and commands: refused with nothing touched, or let through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fleet.deploy.options import Options
from fleet.errors import EvaluationError, PolicyError
from fleet.events import PolicyApplied
from fleet.host.garbage import Garbage
from fleet.inventory import load
from fleet.library.judging import Plea
from fleet.library.signatures import add_signatures, beside, read_signatures
from fleet.machine import Output
from fleet.model import Closure, Derivation, Goal, HostName, HostResult, Outcome, Verb
from fleet.plans import Source
from fleet.policy import Actor, PrincipalKind
from fleet.signing import APPROVAL
from fleet.state import HostRecord, Hosts, RunRecord
from tests.fakes import asks, runs, said
from tests.signer import Device
from tests.tools import new_key
from tests.unit import builders
from tests.unit.builders import NEW, RUN
from tests.unit.world import OLDER, YES, Applying, World

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.plans import Plan
    from tests.unit.conftest import CommandLine, Terminal

A, B = map(HostName, "ab")
AGENT = Actor("agent-3", PrincipalKind.AGENT)
ASK = '[approval]\nbreak_glass = ["ann"]\n[[agents]]\nname = "agents"\nhosts = "a"\n'
UPTIME = runs("timeout", "--kill-after=5", "600.000", "sh", "-c", "uptime")
DEVICE = Device()
LOOKING = (runs("sh", "-c"), said(platform="x86_64-linux"))
"""A host says what a closure is that it has."""
NEVER = 'window = "Mon 02:00-02:01 Pacific/Kiritimati"\n'


def write(folder: Path, policy: str = ASK, *, people: bool = True) -> None:
    (folder / "policy.toml").write_text(policy)
    if people:
        (folder / "principals.toml").write_text(
            f'[principals.ann]\nkind = "person"\nkeys = ["{DEVICE.public}"]\n[principals.agent-3]\nkind = "agent"\n'
        )


def begun(world: World) -> list[str]:
    """Hosts on which more was done than to look."""
    done = ("begin", "root", "stage")
    return [name for name, link in world.links.items() if any(asks(verb)(one) for verb in done for one in link.ran)]


@pytest.mark.parametrize("verb", ["deploy", "push", "rollback"])
async def test_agent_that_has_to_ask_changes_nothing(tmp_path: Path, verb: str) -> None:
    write(tmp_path)
    world = World(tmp_path, "a", "b", verb=verb)
    world.actor = AGENT
    for name in "ab":
        world.on(name, LOOKING)
    assert await world.execute() == 2
    assert world.outcomes == {A: Outcome.SKIPPED, B: Outcome.SKIPPED}
    assert world.end.error is not None
    assert "a: policy.toml asks for more: it needs 1 approval, and has 0" in world.end.error.message
    assert world.end.error.said[0].startswith("a: ask, by agents: agent-3 is an agent")
    assert begun(world) == []


@pytest.mark.parametrize("actor", [None, Actor("ci", PrincipalKind.CI)])
async def test_who_need_not_ask_deploys_as_ever(tmp_path: Path, actor: Actor | None) -> None:
    write(tmp_path)
    world = World(tmp_path, "a", "b")
    world.actor = actor
    assert await world.execute() == 0
    assert world.events.of(PolicyApplied) == []


@pytest.mark.parametrize(("selector", "code"), [("a", 2), ("b", 0)])
async def test_agent_deploys_where_no_rule_speaks_about_it(tmp_path: Path, selector: str, code: int) -> None:
    write(tmp_path, ASK.replace('"a"', f'"{selector}"'))
    world = World(tmp_path, "a", "b")
    world.hosts, world.actor = world.hosts[:1], AGENT
    assert await world.execute() == code


async def test_wrong_policy_allows_nothing(tmp_path: Path) -> None:
    write(tmp_path, ASK + "surprise = 1\n")
    world = World(tmp_path, "a")
    assert await world.execute() == 2
    assert world.end.error is not None
    assert "surprise: unknown key" in world.end.error.message
    assert begun(world) == []


async def test_approved_plan_is_applied_and_the_run_tells_by_whom(tmp_path: Path) -> None:
    write(tmp_path)
    world = Applying(tmp_path, "a", "b")
    world.actor = AGENT
    plan = world.plan(("a", "b"), by="agent-3")
    async with world.fleet() as fleet:
        with pytest.raises(PolicyError):
            await fleet.require_allowed(plan)
        await fleet.require_allowed(plan, B)
        plea = Plea(signatures=(DEVICE.sign(plan.head, APPROVAL),))
        run = fleet.apply(plan, plea=plea)
        events = [event async for event in run]
        assert (await run).exit_code == 0
    (applied,) = (event for event in events if isinstance(event, PolicyApplied))
    assert (applied.decisions, applied.rules, applied.satisfied, applied.broken_by) == (
        {A: "ask", B: "allow"}, ("agents",), "approved by ann", "",
    )  # fmt: skip


def applied(command_line: CommandLine, world: Applying, plan: Plan, *words: str) -> tuple[int, str]:
    told = command_line(world, "apply", str(world.folder / "update.plan"), *words)
    return told.code, told.err


@pytest.mark.parametrize("signed", [False, True])
def test_signatures_are_taken_from_beside_the_plan(tmp_path: Path, command_line: CommandLine, *, signed: bool) -> None:
    write(tmp_path)
    world = Applying(tmp_path, "a")
    world.actor = AGENT
    plan = world.plan(("a",), by="agent-3")
    if signed:
        add_signatures(plan, beside(tmp_path / "update.plan"), [DEVICE.sign(plan.head, APPROVAL)])
    code, _ = applied(command_line, world, plan, "--json")
    assert (code, world.began()) == ((0, ["a"]) if signed else (2, []))


def test_plan_of_an_agent_is_an_agent_s_whoever_applies_it(tmp_path: Path, command_line: CommandLine) -> None:
    write(tmp_path)
    world = Applying(tmp_path, "a")
    world.plan(("a",), by="agent-3")
    told = command_line(world, "apply", str(tmp_path / "update.plan"), "--json")
    assert (told.code, world.began()) == (2, [])


def test_who_has_not_signed_a_plan_from_elsewhere_counts_as_an_agent(tmp_path: Path, command_line: CommandLine) -> None:
    from fleet.signing import PLAN

    write(tmp_path)
    world = Applying(tmp_path, "a")
    plan = world.plan(("a",), by="ann")
    file = str(tmp_path / "update.plan")
    assert (command_line(world, "apply", file).code, world.began()) == (2, [])
    add_signatures(plan, beside(tmp_path / "update.plan"), [DEVICE.sign(plan.head, PLAN)])
    assert (command_line(world, "apply", file).code, world.began()) == (0, ["a"])


def test_refusal_comes_before_the_question(tmp_path: Path, command_line: CommandLine, terminal: Terminal) -> None:
    write(tmp_path)
    world = World(tmp_path, "a", "b")
    world.actor = AGENT
    told = command_line(world, "deploy", "--all")
    assert (told.code, "[y/N]" in told.err, "error: a: policy.toml asks for more" in told.err) == (2, False, True)
    assert "hint:  fleet plan --sign -o FILE" in told.err


def test_closed_window_is_told_with_its_next_opening(tmp_path: Path, command_line: CommandLine) -> None:
    write(tmp_path, '[[windows]]\nname = "night"\nhosts = "*"\nwindow = "Mon 02:00-02:01 Pacific/Kiritimati"\n')
    world = World(tmp_path, "a")
    told = command_line(world, "deploy", "a")
    assert (told.code, begun(world)) == (2, [])
    assert "a: deny, by night: it is outside of Mon 02:00-02:01 Pacific/Kiritimati, which opens " in told.out + told.err


async def test_going_back_never_waits_for_a_window(tmp_path: Path) -> None:
    write(tmp_path, f'[[windows]]\nhosts = "*"\n{NEVER}')
    world = World(tmp_path, "a", verb="rollback")
    reads = (lambda command: "readlink" in str(command), said(platform="x86_64-linux"))
    world.on("a", (asks("look"), said(state="switched", running=OLDER)), reads, (runs("xargs"), YES))
    assert await world.execute() == 0


def test_break_glass_goes_ahead_and_is_written_down_everywhere(
    tmp_path: Path, command_line: CommandLine, home: Path
) -> None:
    write(tmp_path, ASK + '[[windows]]\nname = "never"\nhosts = "*"\nwindow = "Mon 02:00-02:01 Pacific/Kiritimati"\n')
    world = Applying(tmp_path, "a")
    told = command_line(world, "deploy", "a", "--copy-with", "nix", "--break-glass", "the shop is down", "--json")
    assert told.code == 0, told.out + told.err
    (event,) = (row for row in map(json.loads, told.out.splitlines()) if row["event"] == "policy_applied")
    assert (event["broken_by"], event["reason"], event["rules"]) == ("ann", "the shop is down", ["never"])
    assert "intent break-glass by ann: the shop is down" in world.orders("a")
    rows = [json.loads(line) for _, line in world.state.ledger.read().lines]
    assert [row["kind"] for row in rows[:4]] == ["opened", "break_glass", "plan", "begin"]
    assert (rows[1]["by"], rows[1]["verb"], rows[1]["hosts"], rows[1]["rule"], rows[1]["why"]) == (
        "ann", "deploy", ["a"], "never", "the shop is down",
    )  # fmt: skip


@pytest.mark.parametrize("actor", [AGENT, Actor("bob", PrincipalKind.PERSON), Actor("ann", PrincipalKind.AGENT)])
def test_only_people_whom_the_policy_names_break_its_rules(
    tmp_path: Path, command_line: CommandLine, actor: Actor
) -> None:
    write(tmp_path, '[approval]\nbreak_glass = ["ann"]\n[[windows]]\nhosts = "*"\nwindow = "Mon 02:00-02:01"\n')
    world = World(tmp_path, "a")
    world.actor = actor
    told = command_line(world, "exec", "a", "--break-glass", "please", "--", "uptime")
    if actor.kind is PrincipalKind.PERSON:
        assert told.code == 1 or "nobody said" in told.err  # no rule is about exec, so that nothing is broken
    told = command_line(world, "reboot", "a", "--break-glass", "please")
    assert (told.code, "is not one whom" in told.out + told.err) == (2, True)
    assert (world.state.ledger.kept_for_later(), world.state.ledger.noted()) == (0, None)


@pytest.mark.parametrize(("signed", "has_begun"), [(False, True), (True, True), (True, False)])
async def test_who_goes_on_with_a_rollout_has_to_be_allowed_to_begin_its_other_hosts(
    tmp_path: Path, *, signed: bool, has_begun: bool
) -> None:
    """A window that has closed since its first host began stops nothing, and what was signed then still counts."""
    write(tmp_path, f'{ASK}[[windows]]\nhosts = "*"\n{NEVER}')
    world = Applying(tmp_path, "a", "b")
    world.actor = AGENT
    plan = world.plan(("a", "b"), by="agent-3", expires=4_000_000_000)
    world.state.keep_plan(plan.digest, plan.text, expires=plan.expires)
    kept = HostResult(host=B, outcome=Outcome.KEPT, closure=NEW)
    first = HostRecord(name=B, begun=True, result=kept) if has_begun else HostRecord(name=B)
    record = RunRecord(id=RUN, plan=plan.digest, hosts=Hosts([HostRecord(name=A), first]))
    async with world.fleet() as fleet:
        if signed:
            add_signatures(plan, fleet.signatures_file(plan), [DEVICE.sign(plan.head, APPROVAL)])
        done = await (await fleet.carry_on(record))
    assert (done.exit_code, world.began()) == ((0, ["a"]) if signed and has_begun else (2, []))


def test_plan_from_elsewhere_is_not_ours_once_a_host_of_it_was_allowed(
    tmp_path: Path, command_line: CommandLine
) -> None:
    write(tmp_path)
    world = Applying(tmp_path, "a", "b")
    world.plan(("a", "b"), by="ann")
    file = str(tmp_path / "update.plan")
    assert (command_line(world, "apply", file, "b").code, world.began()) == (0, ["b"])  # no rule is about it
    assert (command_line(world, "apply", file, "a").code, world.began()) == (2, ["b"])


def test_rule_for_a_computer_is_for_all_that_is_on_it(tmp_path: Path, command_line: CommandLine) -> None:
    write(tmp_path)
    world = Applying(tmp_path, "a", more="[hosts.a.profiles.ann]\n")
    world.actor = AGENT
    for words in (("exec", "a.ann", "--yes", "--", "uptime"), ("reboot", "a.ann", "--yes")):
        told = command_line(world, *words)
        assert (told.code, "agent-3 is an agent" in told.out + told.err, world.began()) == (2, True, []), told


async def test_signatures_of_a_run_are_kept_for_whoever_goes_on_with_it(tmp_path: Path) -> None:
    write(tmp_path)
    world = Applying(tmp_path, "a")
    plan = world.plan(("a",), by="agent-3")
    signature = DEVICE.sign(plan.head, APPROVAL)
    async with world.fleet() as fleet:
        await fleet.apply(plan, plea=Plea(signatures=(signature,)))
        assert read_signatures(plan, fleet.signatures_file(plan)) == (signature,)


def test_break_glass_without_a_policy_is_exit_2(tmp_path: Path, command_line: CommandLine) -> None:
    told = command_line(World(tmp_path, "a"), "deploy", "a", "--break-glass", "x")
    assert (told.code, "there is no policy.toml" in told.out + told.err) == (2, True)


@pytest.mark.parametrize(
    "act", [("exec", "a", "--", "uptime"), ("reboot", "a"), ("ssh", "a", "true"), ("install", "a"), ("gc", "a")]
)
def test_agent_that_has_to_ask_runs_no_command_and_neither_reboots_nor_installs(
    tmp_path: Path, command_line: CommandLine, act: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a shell was opened"))
    write(tmp_path)
    world = World(tmp_path, "a", "b")
    world.actor = AGENT
    told = command_line(world, *act)
    assert (told.code, "has no plan that anybody could approve" in told.out + told.err) == (2, True)
    assert world.links[A].ran == []


def test_command_is_refused_before_the_question(tmp_path: Path, command_line: CommandLine, terminal: Terminal) -> None:
    write(tmp_path)
    world = World(tmp_path, "a", "b")
    world.actor = AGENT
    told = command_line(world, "exec", "--all", "--", "uptime")
    assert (told.code, "[y/N]" in told.err, world.links[A].ran) == (2, False, [])


async def test_library_runs_no_command_for_an_agent_that_has_to_ask(tmp_path: Path) -> None:
    write(tmp_path)
    world = World(tmp_path, "a")
    world.actor = AGENT
    async with world.fleet() as fleet:
        with pytest.raises(PolicyError, match="no plan that anybody could approve"):
            await fleet.execute("a", command="uptime")
        with pytest.raises(PolicyError, match="no plan that anybody could approve"):
            await fleet.garbage.free({A: Garbage(keep=1)})
    assert world.links[A].ran == []


def test_agent_runs_commands_where_it_need_not_ask(tmp_path: Path, command_line: CommandLine) -> None:
    write(tmp_path)
    world = World(tmp_path, "a", "b")
    world.actor = AGENT
    world.on("b", (UPTIME, Output(status=0, stdout="up\n")))
    assert command_line(world, "exec", "b", "--", "uptime").code == 0


def test_who_is_nobody_in_principals_looks_and_changes_nothing(tmp_path: Path, command_line: CommandLine) -> None:
    write(tmp_path, "")
    world = World(tmp_path, "a")
    world.actor = Actor("bob", None)
    assert command_line(world, "status", "a").code == 0
    told = command_line(world, "deploy", "a")
    assert (told.code, "bob is nobody in" in told.out + told.err, begun(world)) == (2, True, [])


def test_plan_carries_the_id_of_the_fleet_and_the_principal(tmp_path: Path) -> None:
    from fleet.inventory.edit import set_id

    file = tmp_path / "fleet.toml"
    for text in (
        "[hosts.a]\n",
        "# mine\n[fleet] # ours\nname = 'x'\n\n[hosts.a]\n",
        "[fleet]\r\nname = 'x'\r\n[hosts.a]\r\n",
    ):
        file.write_bytes(text.encode())
        assert set_id(file, "0123456789abcdef") == "0123456789abcdef"
        assert load(file).id == "0123456789abcdef"
        assert set_id(file, "f" * 16) == "0123456789abcdef", "the first one stays"
        assert file.read_bytes().decode().replace('id = "0123456789abcdef"', "").split() == (
            text.split() if "[fleet]" in text else ["[fleet]", *text.split()]
        )


def test_plan_is_signed_by_its_author_beside_its_file(tmp_path: Path, command_line: CommandLine, home: Path) -> None:
    from fleet.library.plans import read_plan
    from fleet.signing import PLAN
    from fleet.signing.keygen import allowed_signers, verify

    new_key(home / ".ssh" / "id_ed25519")
    world = Applying(tmp_path, "a", more="build_on = 'target'")
    world.wanted = NEW
    world.on("a", (runs("nix-store", "--realise"), Output(status=0)), LOOKING)
    target = tmp_path / "update.plan"
    told = command_line(world, "plan", "a", "--no-eval-cache", "--sign", "-o", str(target))
    assert told.code == 0, told.err
    assert "wrote id of [fleet]" in told.err
    assert "nobody can approve it" in told.err
    plan = read_plan(target)
    (signature,) = read_signatures(plan, beside(target))
    assert signature.namespace == PLAN
    assert verify(plan.head, signature, name="ann", allowed=allowed_signers([("ann", signature.key, False)]))
    assert beside(target).stat().st_mode & 0o777 == 0o600


def test_sign_without_a_file_is_exit_2(tmp_path: Path, command_line: CommandLine) -> None:
    told = command_line(World(tmp_path, "a"), "plan", "a", "--sign")
    assert (told.code, "-o FILE" in told.err) == (2, True)


async def test_amended_plan_brings_the_same_systems_to_hosts_as_they_are_now(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a", "b")
    drv = Derivation(f"/nix/store/{'d' * 32}-a.drv")
    parts = [world.part(name, closure=Closure(world.wanted), derivation=drv) for name in "ab"]
    earlier = builders.plan(("a", "b"), parts=parts, source=Source(reference="/f", revision="1f3c", is_clean=True))
    world.has_changed("a", serial="42-b")
    async with world.fleet() as fleet:
        planning = fleet.plan_as([world.inventory.hosts[A]], Options(verb=Verb.PLAN, amends=earlier, copy_with="nix"))
        made = await planning
    assert (made.amends, made.hosts, made.source) == (earlier.digest, (A,), earlier.source)
    assert (made.parts[A].closure, made.parts[A].serial) == (earlier.parts[A].closure, "42-b")
    assert f"amends {earlier.digest}\n" in made.head
    assert made.goal is Goal.SWITCH
    async with world.fleet() as fleet:
        elsewhere = Options(verb=Verb.PLAN, amends=builders.plan(("b",), parts=[world.part("b")]))
        with pytest.raises(EvaluationError, match="brings nothing to it"):
            await fleet.plan_as([world.inventory.hosts[A]], elsewhere)


def test_withdrawn_plan_is_told_by_each_host(tmp_path: Path, command_line: CommandLine) -> None:
    world = Applying(tmp_path, "a", "b")
    plan = world.plan(("a", "b"))
    world.on("a", (asks("withdraw"), said(serial="42-c")))
    world.on("b", (asks("withdraw"), said()))
    told = command_line(world, "withdraw", str(tmp_path / "update.plan"), "--yes")
    assert told.code == 0, told.err
    assert told.out.splitlines() == ["a: withdrawn, the serial is 42-c", "b: was worthless already"]
    (call,) = (command for command in world.links[A].ran if asks("withdraw")(command))
    assert call.argv[-4:] == (plan.parts[A].serial, "ann", "desk", plan.digest)


def test_withdrawal_that_a_host_does_not_hear_is_exit_1(tmp_path: Path, command_line: CommandLine) -> None:
    world = Applying(tmp_path, "a")
    world.plan(("a",))
    world.on("a", (asks("withdraw"), said(refused="locked", open_run="r1", open_state="switched")))
    told = command_line(world, "withdraw", str(tmp_path / "update.plan"))
    assert (told.code, "a transaction is open" in told.err) == (1, True)


def test_fleet_without_the_files_loads_nothing_of_this(tmp_path: Path) -> None:
    """Somebody alone sees no change, and does not wait for it either."""
    (tmp_path / "fleet.toml").write_text(
        '[hosts.a]\naddress = "127.0.0.1"\nport = 1\nuser = "root"\nconnect_timeout = "1s"\n'
    )
    script = (
        "import sys; from fleet.cli import run; code = run(sys.argv[1:]); "
        "print(code, *sorted(name for name in sys.modules if name.startswith(('fleet.policy', 'fleet.signing'))))"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    argv = [sys.executable, "-c", script, "rollback", "a", "--file", str(tmp_path / "fleet.toml")]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == "1", done.stdout + done.stderr


@pytest.mark.parametrize("policy", [False, True])
def test_policy_explain_says_what_a_gate_asks_for(tmp_path: Path, command_line: CommandLine, *, policy: bool) -> None:
    world = Applying(tmp_path, "a", "b", "c")
    if policy:
        write(tmp_path, '[[agents]]\nname = "agents"\nhosts = "c"\n')
        world.actor = Actor("ann", PrincipalKind.PERSON)
    world.file.write_text(world.file.read_text().replace("[hosts.a]", "[hosts.a]\ngate = true"))
    world.inventory = load(world.file)
    plan = world.plan(("a", "b"), by="ann")
    file = str(tmp_path / "update.plan")
    shown = command_line(world, "policy", "explain", file)
    assert (shown.code, "a: has a gate, which takes signed plans only" in shown.err) == (1, True)
    document = json.loads(command_line(world, "policy", "explain", file, "--json").out)
    assert (document["allowed"], document["unsigned"]) == (False, "a: has a gate, which takes signed plans only")
    assert command_line(world, "policy", "explain", file, "b").code == 0
    assert command_line(world, "apply", file, "--yes").code == 2
    assert plan.digest == document["plan"]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not waited for cannot be kept either."""
    monkeypatch.setattr("fleet.state.ledgers.StoredLedger.enter_later", lambda *_: False)


@pytest.mark.usefixtures("full")
def test_withdrawal_that_is_not_in_the_ledger_is_told(tmp_path: Path, command_line: CommandLine) -> None:
    world = Applying(tmp_path, "a")
    world.plan(("a",))
    world.on("a", (asks("withdraw"), said(serial="42-c")))
    told = command_line(world, "withdraw", str(tmp_path / "update.plan"), "--yes")
    lacks = "warning: the ledger lacks what was done, since it cannot be written: withdrawal"
    assert (told.code, lacks in told.err) == (0, True)


@pytest.mark.usefixtures("full")
def test_broken_rule_that_is_not_in_the_ledger_is_told(tmp_path: Path, command_line: CommandLine) -> None:
    write(tmp_path, ASK + '[[windows]]\nname = "never"\nhosts = "*"\nwindow = "Mon 02:00-02:01 Pacific/Kiritimati"\n')
    world = Applying(tmp_path, "a")
    told = command_line(world, "deploy", "a", "--copy-with", "nix", "--break-glass", "fire")
    assert "warning: the ledger lacks what was done, since it cannot be written: break_glass" in told.err
