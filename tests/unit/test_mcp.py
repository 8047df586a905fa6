"""What agents get over MCP: few tools that say what they may do, short answers, and no way around people."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from mcp.shared.exceptions import MCPError

from fleet.cli.parse import complaint
from fleet.errors import ConfigError
from fleet.inventory import load
from fleet.library.signatures import add_signatures, beside
from fleet.machine import Output
from fleet.mcp import answers, looks
from fleet.mcp.tools import MOST, TOOLSETS, all_tools, offered
from fleet.model import HostName
from fleet.plans import Source
from fleet.policy import Actor, PrincipalKind
from fleet.signing import APPROVAL
from tests.fakes import asks, said
from tests.signer import Device
from tests.unit.agents import PAYLOAD, SEEN, agent, texts
from tests.unit.builders import OLD
from tests.unit.test_cli_logs import Journal
from tests.unit.world import ENTRY, FACTS, Applying, World

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.plans import Plan

AGENT = Actor("agent-3", PrincipalKind.AGENT)
DEVICE = Device()
CLEAN = Source(reference="git+file:///etc/home", revision="1f3c9a0d2b44", is_clean=True)
LARGEST = 100_000
FORBIDDEN = re.compile(
    r"force|yes|break|glass|risk|quarantin|window|unlock|sign|approv|closure|key|skip", re.IGNORECASE
)
CHANGING = {"plan", "deploy", "rollback", "withdraw"}


def nobody() -> Any:
    raise AssertionError("nobody asks")


async def test_every_tool_says_what_it_may_do_and_all_are_short(tmp_path: Path) -> None:
    async with agent(World(tmp_path, "a")) as someone:
        listed = await someone.client.list_tools()
    assert len(listed.tools) == MOST == 15
    for tool in listed.tools:
        hints = tool.annotations
        assert hints is not None
        each = (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint)
        assert None not in each, tool.name
        assert hints.read_only_hint == (tool.name not in CHANGING)
        assert tool.description
    assert {tool.name for tool in listed.tools if tool.annotations and tool.annotations.destructive_hint} == {
        "deploy", "rollback", "withdraw",
    }  # fmt: skip
    assert len(listed.model_dump_json(by_alias=True).encode()) < 24_000


async def test_no_tool_approves_unlocks_forces_or_breaks_glass(tmp_path: Path) -> None:
    async with agent(World(tmp_path, "a")) as someone:
        tools = (await someone.client.list_tools()).tools
    for tool in tools:
        for word in (tool.name, *tool.input_schema["properties"]):
            assert not FORBIDDEN.search(word), (tool.name, word)


@pytest.mark.parametrize("toolsets", [(), TOOLSETS, ("changes",), ("plans",)])
async def test_read_only_beats_everything(tmp_path: Path, toolsets: tuple[str, ...]) -> None:
    async with agent(World(tmp_path, "a"), toolsets=toolsets, read_only=True) as someone:
        names = {tool.name for tool in (await someone.client.list_tools()).tools}
        assert not names & CHANGING
        refused = await someone.client.call_tool("rollback", {"hosts": ["a"], "intent": "no"})
        assert refused.is_error
        assert "Unknown tool" in str(refused.content)


async def test_only_the_sets_that_are_named_are_there(tmp_path: Path) -> None:
    async with agent(World(tmp_path, "a"), toolsets=["runs"]) as someone:
        assert {tool.name for tool in (await someone.client.list_tools()).tools} == {"runs", "run"}
        resources = await someone.client.list_resources()
        assert [str(one.uri) for one in resources.resources] == ["fleet://runs"]
        with pytest.raises(MCPError):
            await someone.read("fleet://inventory")
    with pytest.raises(ConfigError, match="no set"):
        offered(all_tools(nobody), ["host"], read_only=False)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_of_either_protocol_looks_at_hosts(tmp_path: Path, mode: str) -> None:
    async with agent(World(tmp_path, "a", "b"), mode=mode) as someone:
        first = await someone.call("inventory")
        assert (first["fleet"], first["count"], [row["name"] for row in first["hosts"]]) == ("home", 2, ["a", "b"])
        (row,) = (await someone.call("status", hosts=["b"]))["hosts"]
        assert (row["name"], row["reachable"], row["running"]) == ("b", True, OLD)
        assert (await someone.read("fleet://hosts/b"))["declared"]["name"] == "b"


async def test_who_is_in_the_mesh_can_be_read_and_no_host_is_asked(tmp_path: Path) -> None:
    world = World(tmp_path, "a", "b")
    async with agent(world) as someone:
        with pytest.raises(MCPError, match=r"there is no mesh\.toml"):
            await someone.read("fleet://mesh")
        entries = "\n".join(
            f'[hosts.{name}]\npublic_key = "{key * 42}A="\naddress = "fd25::{key}"'
            for name, key in (("a", "1"), ("x", "2"))
        )
        (tmp_path / "mesh.toml").write_text(f'prefix = "fd25::/64"\n{entries}\n')
        told = await someone.read("fleet://mesh")
        assert (told["prefix"], told["count"], told["next"]) == ("fd25::/64", 2, None)
        assert {row["name"]: row["is_stale"] for row in told["hosts"]} == {"a": False, "x": True}
    assert not any(link.ran for link in world.links.values())


async def test_what_is_wrong_names_the_remedy(tmp_path: Path) -> None:
    async with agent(World(tmp_path, "a")) as someone:
        error = await someone.fails("status", hosts=["nobody"])
        assert error["kind"] == "config"
        assert "nobody" in error["foreign"]["message"]
        for tool, wrong in (("run", {"run": "20261120T042211-3fa9c1d2"}), ("show_plan", {"plan": "abcdef"})):
            assert (await someone.fails(tool, **wrong))["kind"] == "config"
        assert (await someone.fails("status", after="elsewhere"))["kind"] == "config"
        with pytest.raises(MCPError):
            await someone.read("fleet://hosts/%2A")


def many(tmp_path: Path, count: int = 1000) -> World:
    """A fleet of so many hosts, of which each says as much as it may."""
    names = [f"machine-of-the-fleet-{number:04}" for number in range(count)]
    more = 'tags = ["prod", "europe", "rack-17", "inference"]\n'
    world = World(tmp_path, *names, more=more)
    unit = "a-unit-with-a-name-that-is-rather-long-as-they-are-sometimes.service"
    for name in names:
        world.on(
            name,
            (asks("facts"), said(**FACTS, failed_unit=[f"{number}-{unit}" for number in range(200)])),
            (asks("history"), said(history=[ENTRY.replace("train", "why " * 100)] * 100)),
        )
    return world


async def test_no_answer_is_longer_than_100_000_bytes_on_a_fleet_of_1000_hosts(tmp_path: Path) -> None:
    world = many(tmp_path)
    async with agent(world) as someone:
        for tool, more in (("inventory", {}), ("status", {}), ("health", {}), ("history", {"newest": 100})):
            first = await someone.call(tool, **more)
            assert first["hosts"], tool
            assert first["next"], tool
        every = await someone.pages("inventory")
        assert [row["name"] for row in every] == list(world.inventory.hosts)
        for uri in ("fleet://inventory", "fleet://history/machine-of-the-fleet-0007"):
            assert await someone.read(uri)
    assert 10_000 < someone.largest < LARGEST


async def test_even_a_bug_in_a_page_makes_no_answer_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "PAGE", 10**9)
    async with agent(many(tmp_path)) as someone:
        assert (await someone.call("inventory"))["error"]["kind"] == "bug"
    assert someone.largest < LARGEST


async def test_a_page_asks_only_the_hosts_that_it_shows(tmp_path: Path) -> None:
    world = many(tmp_path, 120)
    async with agent(world) as someone:
        first = await someone.call("status")
        asked = [name for name, link in world.links.items() if link.ran]
        assert len(asked) <= 50
        rest = await someone.pages("status")
    assert [row["name"] for row in first["hosts"]] == asked[: len(first["hosts"])]
    assert [row["name"] for row in rest] == list(world.inventory.hosts)


async def test_plan_of_1000_hosts_is_told_page_by_page(tmp_path: Path) -> None:
    names = tuple(f"machine-{number:04}" for number in range(1000))
    world = Applying(tmp_path, *names)
    plan = kept(world, world.plan(names, source=CLEAN))
    async with agent(world) as someone:
        every = await someone.pages("show_plan", plan=plan.digest)
        assert [row["name"] for row in every] == list(names)
        assert (await someone.read(f"fleet://plans/{plan.digest}"))["count"] == 1000
    assert someone.largest < LARGEST


def kept(world: World, plan: Plan) -> Plan:
    """The plan, which this machine keeps."""
    world.state.keep_plan(plan.digest, plan.text, expires=plan.expires)
    return plan


async def test_what_others_wrote_is_apart_short_and_without_control_characters(tmp_path: Path) -> None:
    """A host, an agent and a plan write the same everywhere where they may: it is below `foreign` alone."""
    world = Applying(tmp_path, "a")
    hostile = PAYLOAD.replace("\n", " ")
    world.on(
        "a",
        (
            asks("facts"),
            said(**FACTS | dict.fromkeys(("running", "profile", "boot_default", "booted", "staged"), hostile),
                 failed_unit=[hostile] * 50, quarantined=[hostile], open_run=hostile, open_state=hostile,
                 open_who=hostile, open_from=hostile, open_new=hostile, open_old=hostile, nvidia=hostile,
                 running_nvidia=hostile),
        ),
        (asks("history"), said(history=["\t".join([hostile] * 15), ENTRY.replace("train", hostile)])),
        (asks("withdraw"), Output(status=1, stdout=f"error=unfit\nmessage={hostile}\n", stderr=hostile)),
    )  # fmt: skip
    source = Source(reference=hostile, revision="1f3c9a0d2b44", is_clean=True)
    plan = kept(world, world.plan(("a",), intent=hostile, by="ann", source=source))
    async with agent(world) as someone:
        told_by = [await someone.call(tool) for tool in ("inventory", "status", "health", "history", "runs", "plans")]
        told_by += [await someone.call("show_plan", plan=plan.digest), await someone.call("withdraw", plan=plan.digest)]
    told = [(place, text) for answer in told_by for place, text in texts(answer)]
    assert len([text for _, text in told if SEEN in text]) > 10
    for place, text in told:
        assert SEEN not in text or "foreign" in place, (place, text)
        assert text.isprintable(), (place, text)
        assert len(text) < 1100
    assert "\x1b" not in json.dumps(told_by, ensure_ascii=False)


ASK = '[approval]\nrequired = 1\n[[agents]]\nname = "agents"\nhosts = "a"\n'


def governed(tmp_path: Path, policy: str = ASK) -> Applying:
    """A fleet with a policy, in which an agent acts."""
    (tmp_path / "policy.toml").write_text(policy)
    (tmp_path / "principals.toml").write_text(
        f'[principals.ann]\nkind = "person"\nkeys = ["{DEVICE.public}"]\n[principals.agent-3]\nkind = "agent"\n'
    )
    world = Applying(tmp_path, "a", "b")
    world.actor = AGENT
    return world


async def test_agent_that_has_to_ask_gets_the_command_for_a_person_and_nothing_is_begun(tmp_path: Path) -> None:
    world = governed(tmp_path)
    plan = kept(world, world.plan(("a", "b"), by="agent-3", source=CLEAN))
    async with agent(world) as someone:
        told = await someone.call("deploy", plan=plan.digest)
        assert (told["state"], told["plan"]) == ("needs_approval", plan.digest)
        command = told["human"]["command"]
        assert command == f"fleet approve {plan.digest} --file {world.file}"
        assert complaint(command) is None
        assert "has to ask" in str(told["policy"]["foreign"]) or "agent" in str(told["policy"]["foreign"])
        assert (await someone.call("show_plan", plan=plan.digest))["state"] == "needs_approval"
    assert world.began() == []
    assert not (tmp_path / "requests").exists()


@pytest.mark.parametrize("policy", ["", ASK])
async def test_plan_for_a_host_that_fleet_toml_has_no_more_is_told_and_is_for_nobody(
    tmp_path: Path, policy: str
) -> None:
    """No person is asked to approve it either: their `fleet approve` would refuse it."""
    world = governed(tmp_path, policy) if policy else Applying(tmp_path, "a", "b")
    plan = kept(world, world.plan(("a", "gone"), source=CLEAN))
    async with agent(world) as someone:
        told = await someone.call("show_plan", plan=plan.digest)
        assert (told["state"], [row["name"] for row in told["hosts"]]) == ("denied", ["a", "gone"])
        assert told["why"] == "fleet.toml does not have gone any more, which it is for"
        assert (await someone.read(f"fleet://plans/{plan.digest}"))["state"] == "denied"
        for tool in ("deploy", "withdraw"):
            error = await someone.fails(tool, plan=plan.digest)
            assert "has no host gone" in error["foreign"]["message"]
    assert world.began() == []


async def test_after_the_approval_the_same_call_goes_on(tmp_path: Path) -> None:
    world = governed(tmp_path)
    plan = kept(world, world.plan(("a",), by="agent-3", source=CLEAN))
    async with agent(world) as someone:
        assert (await someone.call("show_plan", plan=plan.digest))["state"] == "needs_approval"
        file = world.fleet().signatures_file(plan)
        add_signatures(plan, file, [DEVICE.sign(plan.head, APPROVAL)])
        assert (await someone.call("show_plan", plan=plan.digest))["state"] == "ready"


async def test_an_approval_beside_the_plans_file_counts_too(tmp_path: Path) -> None:
    world = governed(tmp_path)
    plan = kept(world, world.plan(("a",), by="agent-3", source=CLEAN))
    folder = tmp_path / "requests" / "20261120T042211-3fa9c1d2"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text('{"verb": "plan", "plan": "", "hosts": ["a"], "by": "agent-3", "at": 1}')
    (folder / "fleet.plan").write_text(plan.text)
    async with agent(world) as someone:
        told = await someone.call("deploy", plan=plan.digest)
        assert f"copy {folder}/fleet.plan there" in told["human"]["elsewhere"]
        add_signatures(plan, beside(folder / "fleet.plan"), [DEVICE.sign(plan.head, APPROVAL)])
        assert (await someone.call("run", run=folder.name))["state"] == "ready"


def served_and_proposed(world: Applying) -> list[Plan]:
    """Plans of a commit that is checked out, and of one of another branch."""
    served, proposed = (dataclasses.replace(CLEAN, revision=digit * 40) for digit in "12")
    world.here_too(
        (lambda command: "--show-toplevel" in command.argv, Output(status=0, stdout=f"{world.file.parent}\n")),
        (lambda command: {"merge-base", served.revision} <= set(command.argv), Output(status=0)),
        (lambda command: {"merge-base", proposed.revision} <= set(command.argv), Output(status=1)),
    )
    by = world.actor.name if world.actor else "ann"
    return [kept(world, world.plan(("a",), by=by, source=source)) for source in (served, proposed)]


async def test_commit_that_nobody_has_let_in_takes_a_person_whatever_the_rules_say(tmp_path: Path) -> None:
    """An agent may name any branch of the repository."""
    world = governed(tmp_path, "[approval]\nrequired = 1\n")
    plans = served_and_proposed(world)
    async with agent(world) as someone:
        states = [(await someone.call("show_plan", plan=plan.digest))["state"] for plan in plans]
        assert states == ["ready", "needs_approval"]
        told = await someone.call("deploy", plan=plans[1].digest)
        assert "it takes a merge, or an approval" in told["why"]
        assert complaint(told["human"]["command"]) is None
        add_signatures(plans[1], world.fleet().signatures_file(plans[1]), [DEVICE.sign(plans[1].head, APPROVAL)])
        assert (await someone.call("show_plan", plan=plans[1].digest))["state"] == "ready"
    assert world.began() == []


async def test_where_nobody_can_approve_such_a_commit_a_person_applies_it(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a", "b")
    _, plan = served_and_proposed(world)
    async with agent(world) as someone:
        told = await someone.call("deploy", plan=plan.digest)
    assert told["state"] == "denied"
    assert told["human"]["command"] == f"fleet apply {plan.digest} --file {world.file}"


@pytest.mark.parametrize(
    ("policy", "changes", "says"),
    [
        (ASK + 'must = "deny"\n', {"source": CLEAN}, "leave these hosts out"),
        (ASK, {}, "commit everything"),
        ("", {"parts": {"force": True}}, "--force"),
        ("", {"parts": {"accept_boot_risk": True}}, "--accept-boot-risk"),
        ("", {"parts": {"retry_quarantined": True}}, "--retry-quarantined"),
    ],
)
async def test_what_no_approval_helps_is_denied(
    tmp_path: Path, policy: str, changes: dict[str, Any], says: str
) -> None:
    world = governed(tmp_path, policy)
    forced = changes.pop("parts", {})
    plan = kept(world, world.plan(("a",), by="agent-3", parts={"a": world.part("a", **forced)}, **changes))
    async with agent(world) as someone:
        told = await someone.call("deploy", plan=plan.digest)
    assert told["state"] == "denied"
    assert says in json.dumps(told)
    if "human" in told:
        assert complaint(told["human"]["command"]) is None
    assert not (tmp_path / "requests").exists()


async def test_a_plan_that_leaves_out_windows_is_for_people(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a", more='window = "Mon 02:00-03:00 UTC"\n')
    plan = kept(world, world.plan(("a",), source=CLEAN))
    async with agent(world) as someone:
        told = await someone.call("deploy", plan=plan.digest)
    assert (told["state"], "--ignore-windows" in told["why"]) == ("denied", True)


async def test_an_expired_plan_is_not_applied(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    plan = kept(world, world.plan(("a",), expires=int(time.time()) - 5))
    async with agent(world) as someone:
        assert (await someone.call("show_plan", plan=plan.digest))["state"] == "expired"
        assert "expired" in (await someone.fails("deploy", plan=plan.digest))["foreign"]["message"]


async def test_withdrawing_needs_nobodys_approval(tmp_path: Path) -> None:
    world = governed(tmp_path)
    for name in "ab":
        world.on(name, (asks("withdraw"), said(serial="7-abc")))
    plan = kept(world, world.plan(("a", "b"), by="agent-3"))
    async with agent(world) as someone:
        told = await someone.call("withdraw", plan=plan.digest, hosts=["b"])
    assert (told["withdrawn"], told["failed"], told["hosts"]) == (1, 0, [])
    assert not any(asks("withdraw")(command) for command in world.links[HostName("a")].ran)


async def test_what_differs_on_a_host_is_told_as_what_others_wrote(tmp_path: Path) -> None:
    world = Applying(tmp_path, "a")
    plan = kept(world, world.plan(("a",)))
    async with agent(world) as someone:
        told = await someone.call("diff_plan", plan=plan.digest, host="a")
        assert told["name"] == "a"
        assert set(told) <= {"plan", "name", "same", "bytes", "foreign"}
        assert (await someone.fails("diff_plan", plan=plan.digest, host="b"))["kind"] == "config"


@pytest.mark.parametrize("policy", [False, True])
@pytest.mark.parametrize(("source", "state"), [(CLEAN, "needs_approval"), (Source(), "denied")])
async def test_host_with_a_gate_is_not_ready_before_somebody_has_signed(
    tmp_path: Path, source: Source, state: str, *, policy: bool
) -> None:
    elsewhere = ASK.replace('hosts = "a"', 'hosts = "b"')
    world = governed(tmp_path, elsewhere) if policy else Applying(tmp_path, "a", "b")
    world.file.write_text(world.file.read_text().replace("[hosts.a]", "[hosts.a]\ngate = true"))
    world.inventory = load(world.file)
    plan = kept(world, world.plan(("a",), by="agent-3", source=source))
    async with agent(world) as someone:
        for tool in ("show_plan", "deploy"):
            told = await someone.call(tool, plan=plan.digest)
            assert (told["state"], told["why"]) == (state, "a: has a gate, which takes signed plans only")
            assert ("human" in told) == (state == "needs_approval")
        assert world.began() == []
        if policy and state == "needs_approval":
            add_signatures(plan, world.fleet().signatures_file(plan), [DEVICE.sign(plan.head, APPROVAL)])
            assert (await someone.call("show_plan", plan=plan.digest))["state"] == "ready"


async def test_drift_of_a_computer_is_looked_for_once_whatever_profiles_it_has(tmp_path: Path) -> None:
    world = World(tmp_path, "a", more="[hosts.a.profiles.ann]\n[hosts.a.profiles.bob]")
    async with agent(world) as someone:
        told = await someone.call("drift", hosts=["a", "a.ann", "a.bob"])
    assert [row["name"] for row in told["hosts"]] == ["a"]
    assert len([one for one in world.links[HostName("a")].ran if asks("facts")(one)]) == 1


async def test_a_page_of_drift_ends_where_its_computers_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "AT_ONCE", 1)
    world = World(tmp_path, "a", more="[hosts.a.profiles.ann]")
    async with agent(world) as someone:
        assert len(await someone.pages("drift", hosts=["a", "a.ann"])) == 1


async def test_journal_without_an_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "JOURNAL", 0.05)
    world = World(tmp_path, "a")
    journal = Journal(b"one\n", is_endless=True)
    monkeypatch.setattr(world.links[HostName("a")], "stream", journal.stream)
    async with agent(world) as someone:
        error = await someone.fails("logs", host="a", unit="nginx")
    assert error["foreign"]["message"] == "a: its journal was not read within 0.05 s"
    assert not journal.is_open
