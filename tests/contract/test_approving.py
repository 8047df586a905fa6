"""`fleet approve` with real git, Nix and ssh-keygen: what an approver finds out by themself, and what they refuse."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from fleet import cli
from fleet.errors import FleetError
from fleet.inventory import Check, Hook, load
from fleet.library.plans import read_plan, write_plan
from fleet.library.signatures import add_signatures, beside, read_signatures
from fleet.machine.local import LocalMachine
from fleet.machine.pipe import LocalStreams
from fleet.model import Closure, HostName
from fleet.plans import OtherSource, Part, Plan, Source
from fleet.signing import APPROVAL, PLAN
from fleet.signing.keygen import read_public, sign
from fleet.steps.evaluate import evaluate
from fleet.steps.load import contents_of
from fleet.store.supply import Supply
from tests.signer import Device
from tests.tools import git, new_key

if TYPE_CHECKING:
    from fleet.inventory import Host

pytestmark = [
    pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here"),
    pytest.mark.skipif(shutil.which("git") is None, reason="no git here"),
]
FLAKE = """{
  NIXCONFIG
  outputs = { self }: {
    nixosConfigurations = builtins.mapAttrs (name: version: {
      config.system.build.toplevel = derivation {
        inherit name;
        system = "x86_64-linux";
        builder = "/bin/sh";
        args = [ "-c" "echo ${version} >$out" ];
        tool = derivation {
          name = "tool-${version}"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo >$out" ];
        };
      };
    }) { web-1 = "VERSION"; web-2 = "VERSION"; };
  };
}
"""
TOML = """[fleet]
name = "home"
id = "0123456789abcdef"
[defaults]
offline = "fail"
[hosts.web-1]
tags = ["prod"]
[hosts.web-2]
"""
POLICY = """[protected]
remote = "REMOTE"
branches = ["main"]

[approval]
break_glass = ["ann"]

[[agents]]
name = "agents on prod"
hosts = "@prod"
"""
WEB_1, WEB_2 = HostName("web-1"), HostName("web-2")


@dataclass
class Team:
    """A repository that all have, the work trees of an agent and of ann, and ann's keys."""

    remote: Path
    agent: Path
    ann: Path
    key: Path
    device: Device

    def propose(self, version: str, *, branch: str = "proposal", nix_config: str = "") -> str:
        """Let the agent push a commit with a new version, and return it."""
        flake = FLAKE.replace("VERSION", version).replace("NIXCONFIG", nix_config)
        (self.agent / "flake.nix").write_text(flake)
        git(self.agent, "commit", "-qam", f"update to {version}")
        git(self.agent, "push", "-q", "origin", f"HEAD:{branch}")
        return git(self.agent, "rev-parse", "HEAD")

    def plan(self, revision: str, **changes: Any) -> Plan:
        """The plan that the agent makes of what is in its work tree."""
        asked = evaluate(LocalMachine(), str(self.agent), self.hosts, emit=lambda _: None)
        found = asyncio.run(asked).found
        parts = {
            name: Part(
                host=name,
                closure=one.closure,
                derivation=one.derivation,
                expected=Closure(f"/nix/store/{'0' * 32}-old"),
            )
            for name, one in found.items()
        }
        source = Source(reference=str(self.agent), revision=revision, is_clean=True)
        usual = Plan(
            fleet="home", fleet_id="0123456789abcdef", by="agent-3", made=int(time.time()),
            expires=int(time.time()) + 600, source=source, waves=(tuple(parts),), parts=parts,
        )  # fmt: skip
        return dataclasses.replace(usual, **changes)

    @property
    def hosts(self) -> tuple[Host, ...]:
        return tuple(load(self.ann / "fleet.toml").hosts.values())

    def write(self, plan: Plan) -> Path:
        file = self.ann.parent / "update.plan"
        beside(file).unlink(missing_ok=True)
        write_plan(plan, file)
        return file

    def run(self, *words: str) -> Result:
        argv = [*words, "--file", str(self.ann / "fleet.toml")]
        return CliRunner().invoke(cli.fleet, argv, standalone_mode=False)

    def approve(self, plan: Plan, *words: str) -> Result:
        return self.run("approve", str(self.write(plan)), "--yes", *words)


@pytest.fixture
def team(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    monkeypatch.setenv("NIX_CONFIG", "build-users-group =\nsubstituters =\nsandbox = false")
    monkeypatch.setattr("fleet.library.authority.user", lambda: "ann")
    remote, agent, ann = (tmp_path / name for name in ("remote.git", "agent", "ann"))
    git(tmp_path, "init", "-q", "--bare", str(remote))
    git(tmp_path, "clone", "-q", str(remote), str(agent))
    git(agent, "checkout", "-q", "-b", "main")
    (agent / "flake.nix").write_text(FLAKE.replace("VERSION", "1").replace("NIXCONFIG", ""))
    (agent / "fleet.toml").write_text(TOML)
    git(agent, "add", "--all")
    git(agent, "commit", "-qm", "begin")
    git(agent, "push", "-q", "origin", "HEAD:main")
    git(tmp_path, "clone", "-q", str(remote), str(ann))
    key = home / ".ssh" / "id_ed25519"
    for file in (key, tmp_path / "agent-key"):
        new_key(file)
    device = Device()
    keys = f'"{read_public(key)}", "{device.public}"'
    (ann / "principals.toml").write_text(
        f'[principals.ann]\nkind = "person"\nkeys = [{keys}]\n'
        f'[principals.agent-3]\nkind = "agent"\nkeys = ["{read_public(tmp_path / "agent-key")}"]\n'
    )
    (ann / "policy.toml").write_text(POLICY.replace("REMOTE", str(remote)))
    return Team(remote, agent, ann, key, device)


def refused(done: Result) -> str:
    assert isinstance(done.exception, FleetError), done.output
    return f"{done.exception.message} {' '.join(done.exception.said)} ({done.exception.hint})"


def test_plan_is_approved_when_its_commit_makes_its_systems(team: Team) -> None:
    plan = team.plan(team.propose("2"))
    file = team.write(plan)
    add_signatures(plan, beside(file), [sign(plan.head, namespace=PLAN, key=team.ann.parent / "agent-key")])
    before = team.run("policy", "explain", str(file), "--json")
    assert (before.return_value, json.loads(before.stdout)["hosts"][0]["decision"]) == (1, "ask")
    done = team.run("approve", str(file), "--yes")
    assert done.exception is None, done.output
    for words in (
        "signed by agent-3, who has made it",
        "2 hosts evaluated here, purely",
        "update to 2",
        "web-1, web-2: tool 1 -> 2",
        "since main",
        "approved by ann",
    ):
        assert words in done.output
    author, approval = read_signatures(plan, beside(file))
    assert (author.namespace, approval.namespace, approval.key) == (PLAN, APPROVAL, read_public(team.key))
    after = json.loads(team.run("policy", "explain", str(file), "--json").stdout)
    assert (after["allowed"], after["satisfied"], after["approvals"]) == (
        True, "approved by ann", [{"by": "ann", "touched": False}],
    )  # fmt: skip
    assert [(one["name"], one["decision"]) for one in after["hosts"]] == [("web-1", "ask"), ("web-2", "allow")]


def test_plan_that_brings_something_else_than_its_commit_is_not_approved(team: Team) -> None:
    honest = team.propose("2")
    team.propose("3-with-a-backdoor")
    told = refused(team.approve(team.plan(honest)))
    assert "web-1: the plan brings another system than its commit makes" in told
    assert not beside(team.ann.parent / "update.plan").exists()


def test_what_is_not_committed_or_not_pushed_cannot_be_approved(team: Team) -> None:
    revision = team.propose("2")
    dirty = Source(reference=str(team.agent), revision=revision, is_clean=False)
    assert "what is not committed cannot be approved" in refused(team.approve(team.plan(revision, source=dirty)))
    (team.agent / "flake.nix").write_text(FLAKE.replace("VERSION", "4").replace("NIXCONFIG", ""))
    git(team.agent, "commit", "-qam", "kept to itself")
    unpushed = git(team.agent, "rev-parse", "HEAD")
    assert f"the commit {unpushed} is not in" in refused(team.approve(team.plan(unpushed)))
    plan = team.plan(revision)
    given = {name: dataclasses.replace(part, derivation=None) for name, part in plan.parts.items()}
    told = refused(team.approve(dataclasses.replace(plan, parts=given)))
    assert "does not say what" in told


def test_commands_that_the_approver_s_own_file_has_not_are_refused(team: Team) -> None:
    plan = team.plan(team.propose("2"))
    hook = Hook.model_validate({"name": "x", "on": "controller", "when": "before_push", "command": "evil"})
    check = Check.model_validate({"name": "x", "command": "evil"})
    for changes, told in (({"hooks": (hook,)}, "the hook x"), ({"checks": (check,)}, "the check x runs a command")):
        parts = {**plan.parts, WEB_1: dataclasses.replace(plan.parts[WEB_1], **changes)}
        assert told in refused(team.approve(dataclasses.replace(plan, parts=parts)))


def test_plan_for_another_machine_than_the_own_file_knows_is_refused(team: Team) -> None:
    key = read_public(team.key)
    toml = (team.ann / "fleet.toml").read_text()
    (team.ann / "fleet.toml").write_text(toml.replace("[hosts.web-2]", f'[hosts.web-2]\nhost_key = "{key}"'))
    plan = team.plan(team.propose("2"))
    for known, fine in ((f"SHA256:{'0' * 43}", False), (key.fingerprint, True)):
        part = dataclasses.replace(plan.parts[WEB_2], host_key=known)
        done = team.approve(dataclasses.replace(plan, parts={**plan.parts, WEB_2: part}))
        assert (done.exception is None) is fine, done.output
        assert fine or "web-2: the plan is for the machine with" in refused(done)


def test_terms_that_differ_from_the_own_file_are_shown(team: Team) -> None:
    plan = team.plan(team.propose("2"))
    part = dataclasses.replace(plan.parts[WEB_2], settle=0.0, retry_quarantined=True)
    done = team.approve(dataclasses.replace(plan, parts={**plan.parts, WEB_2: part}))
    assert done.exception is None, done.output
    assert "web-2: settle is 0.0, and 5.0 in your fleet.toml" in done.output
    assert "web-2: it is tried again" in done.output


def test_settings_of_the_flake_are_not_taken(team: Team, tmp_path: Path) -> None:
    """Neither where nix.conf would take them all, nor where the person has once said yes for good."""
    config = 'nixConfig.post-build-hook = "/bin/evil";'
    trusted = Path.home() / ".local" / "share" / "nix" / "trusted-settings.json"
    trusted.parent.mkdir(parents=True)
    trusted.write_text(json.dumps({"post-build-hook": {"/bin/evil": True}}))
    plan = team.plan(team.propose("2", nix_config=config))
    shim = tmp_path / "bin"
    shim.mkdir()
    (shim / "nix").write_text(
        f'#!/bin/sh\necho "$XDG_DATA_HOME $*" >>{tmp_path}/asked\nexec {shutil.which("nix")} "$@"\n'
    )
    (shim / "nix").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(shim), prepend=":")
        done = team.approve(plan)
    assert done.exception is None, done.output
    asked = (tmp_path / "asked").read_text()
    evaluations = [line for line in asked.splitlines() if " eval " in line]
    assert len(evaluations) == asked.count("--option pure-eval true") > 0
    for line in evaluations:
        assert line.startswith(tempfile.gettempdir())
        assert "--option accept-flake-config false" in line


def test_plan_with_other_contents_than_what_is_built_here_is_refused_with_rebuild(team: Team) -> None:
    plan = team.plan(team.propose("2"))
    part = plan.parts[WEB_1]
    assert part.derivation is not None
    subprocess.run(["nix-store", "--realise", part.derivation], check=True, capture_output=True)

    async def contents() -> str:
        async with Supply(LocalStreams()) as supply:
            return (await contents_of(LocalMachine(), supply, part.closure)).manifest

    manifest = asyncio.run(contents())
    for stated, fine in ((manifest, True), ("0" * 64, False)):
        parts = {name: dataclasses.replace(one, manifest=stated) for name, one in plan.parts.items() if name == WEB_1}
        done = team.approve(dataclasses.replace(plan, waves=((WEB_1,),), parts=parts), "--rebuild")
        if fine:
            assert done.exception is None, done.output
            assert "built to the same contents" in done.output
        else:
            assert "what is built here has other contents" in refused(done)


def test_only_people_approve(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = team.plan(team.propose("2"))
    monkeypatch.setenv("FLEET_PRINCIPAL", "agent-3")
    assert "only people can approve" in refused(team.approve(plan))
    monkeypatch.setenv("FLEET_PRINCIPAL", "bob")
    assert "'bob' is nobody in" in refused(team.approve(plan)).replace('"', "'")


def test_merged_is_asked_of_the_remote_and_never_of_local_refs(team: Team) -> None:
    revision = team.propose("2")
    file = team.write(team.plan(revision))
    for place in (team.ann, team.agent):
        git(place, "fetch", "-q", "origin")
        git(place, "update-ref", "refs/heads/main", revision) if place == team.ann else None
        git(place, "update-ref", "refs/remotes/origin/main", revision)
    document = json.loads(team.run("policy", "explain", str(file), "--json").stdout)
    assert (document["allowed"], "is not on main of" in document["lacking"]) == (False, True)
    git(team.agent, "push", "-q", "origin", f"{revision}:main")
    document = json.loads(team.run("policy", "explain", str(file), "--json").stdout)
    assert (document["allowed"], document["satisfied"]) == (True, f"merged to main of {team.remote}")
    git(team.agent, "commit", "-q", "--allow-empty", "-m", "later")
    git(team.agent, "push", "-q", "origin", "HEAD:main")
    assert team.run("policy", "explain", str(file)).return_value == 0


def test_plan_that_only_says_that_it_is_of_a_merged_commit_is_not_merged(team: Team) -> None:
    merged = team.propose("2", branch="main")
    team.propose("3-with-a-backdoor")
    file = team.write(team.plan(merged))
    document = json.loads(team.run("policy", "explain", str(file), "--json").stdout)
    assert (document["allowed"], "brings another system" in document["lacking"]) == (False, True)


def test_remote_that_cannot_be_asked_allows_nothing(team: Team) -> None:
    file = team.write(team.plan(team.propose("2", branch="main")))
    shutil.rmtree(team.remote)
    document = json.loads(team.run("policy", "explain", str(file), "--json").stdout)
    assert (document["allowed"], "cannot be asked" in document["lacking"]) == (False, True)


def test_source_of_another_flake_counts_for_its_hosts(team: Team) -> None:
    """A plan may come from several commits: each of them has to be merged."""
    merged = team.propose("2", branch="main")
    plan = team.plan(merged)
    revision = team.propose("3")
    other = Source(reference=str(team.agent), revision=revision, is_clean=True)
    parts = {**plan.parts, WEB_1: team.plan(revision).parts[WEB_1]}
    file = team.write(
        dataclasses.replace(plan, parts=parts, other_sources=(OtherSource(hosts=(WEB_1,), source=other),))
    )
    document = json.loads(team.run("policy", "explain", str(file), "--json").stdout)
    assert (document["allowed"], f"{revision[:12]} is not on main" in document["lacking"]) == (False, True)


def test_touch_is_read_from_the_signature(team: Team) -> None:
    policy = (team.ann / "policy.toml").read_text()
    (team.ann / "policy.toml").write_text(policy.replace("[approval]\n", "[approval]\ntouch = true\n"))
    plan = team.plan(team.propose("2"))
    file = team.write(plan)
    for flags, allowed in ((0, False), (1, True)):
        beside(file).unlink(missing_ok=True)
        add_signatures(plan, beside(file), [team.device.sign(plan.head, APPROVAL, flags=flags)])
        document = json.loads(team.run("policy", "explain", str(file), "--json").stdout)
        assert document["allowed"] is allowed, document
        assert ("made without a touch" in document["lacking"]) is not allowed


@pytest.mark.parametrize("attack", ["edited", "another plan", "another namespace", "agent", "stranger", "wrong author"])
def test_signature_that_is_not_an_approval_of_this_plan_does_not_count(team: Team, attack: str) -> None:
    plan = team.plan(team.propose("2"))
    file = team.write(plan)
    agent_key = team.ann.parent / "agent-key"
    signature = {
        "edited": lambda: sign(plan.head.replace("at_once 16", "at_once 17"), namespace=APPROVAL, key=team.key),
        "another plan": lambda: sign(dataclasses.replace(plan, made=1).head, namespace=APPROVAL, key=team.key),
        "another namespace": lambda: sign(plan.head, namespace="git", key=team.key),
        "agent": lambda: sign(plan.head, namespace=APPROVAL, key=agent_key),
        "stranger": lambda: Device().sign(plan.head, APPROVAL),
        "wrong author": lambda: sign(plan.head, namespace=PLAN, key=team.key),
    }[attack]()
    add_signatures(plan, beside(file), [signature])
    done = team.run("policy", "explain", str(file), "--json")
    applied = team.run("apply", str(file), "web-1", "--json", "--yes")
    assert applied.return_value == 2, applied.output
    assert json.loads(applied.stdout.splitlines()[-1])["error"]["kind"] == "policy"
    if attack in ("edited", "another plan", "wrong author"):
        told = refused(done)
        assert "is not a good one of this plan" in told or "ann has signed it" in told
    else:
        document = json.loads(done.stdout)
        words = {"another namespace": "was made for 'git'", "agent": "only people", "stranger": "nobody's key"}
        assert (document["allowed"], words[attack] in document["lacking"]) == (False, True)


def test_plan_of_another_fleet_is_refused(team: Team) -> None:
    plan = team.plan(team.propose("2"), fleet_id="fedcba9876543210")
    assert "the plan is for the fleet with the id fedcba9876543210" in refused(team.approve(plan))


def test_approval_of_a_plan_that_has_expired_is_refused(team: Team) -> None:
    assert "expired" in refused(team.approve(team.plan(team.propose("2"), expires=1)))


def test_plan_file_is_not_changed_by_an_approval(team: Team) -> None:
    plan = team.plan(team.propose("2"))
    team.approve(plan)
    assert read_plan(team.ann.parent / "update.plan") == plan
