"""An agent proposes, a person approves with a key, and a host gets exactly that: from plan to proof, on a real host."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from fleet.signing.keygen import read_public
from tests.containers.driver import WEB, Stage, answer, new_version, web
from tests.tools import git, new_key

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab
    from tests.containers.driver import Run

AGENT = {"FLEET_PRINCIPAL": "agent-3", "FLEET_INTENT": "update the shop"}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("one")


def set_up(stage: Stage) -> Path:
    """Write who may what, and return the agent's key; ann's is in ~/.ssh."""
    (stage.home / ".ssh").mkdir()
    ann, agent = stage.home / ".ssh" / "id_ed25519", stage.folder / "agent-key"
    for key in (ann, agent):
        new_key(key)
    (stage.folder / "principals.toml").write_text(
        f'[principals.ann]\nkind = "person"\nusers = ["root"]\nkeys = ["{read_public(ann)}"]\n'
        f'[principals.agent-3]\nkind = "agent"\nkeys = ["{read_public(agent)}"]\n'
    )
    (stage.folder / "policy.toml").write_text('[[agents]]\nname = "agents"\nhosts = "*"\nintent = true\n')
    ours = shutil.ignore_patterns("keys", ".*")
    shutil.copytree(stage.lab.folder.path, stage.folder / "flake", ignore=ours)
    git(stage.folder / "flake", "init", "-q", "--initial-branch=main")
    stage.flake = str(stage.folder / "flake")
    stage.toml({"one": {"checks": [WEB]}})
    return agent


def propose(stage: Stage, version: str, key: Path, *more: str) -> str:
    """Let the agent commit a version, and plan it. Return the name of the plan's file."""
    (stage.folder / "flake" / "hosts" / "one.nix").write_text(web(version))
    git(stage.folder / "flake", "add", "--all")
    git(stage.folder / "flake", "commit", "-qm", f"version {version}")
    plan = str(stage.folder / f"{version}.plan")
    made = stage.fleet("plan", "one", "--sign", "--key", str(key), "-o", plan, *more, env=AGENT)
    assert made.code == 0, made
    return plan


def refused(run: Run, words: str) -> None:
    assert (run.code, words in run.stdout + run.stderr) == (2, True), run


def test_agent_proposes_a_person_approves_and_the_host_gets_exactly_that(stage: Stage) -> None:
    host = stage.settle("one")
    before, version = answer(host), new_version()
    key = set_up(stage)
    plan = propose(stage, version, key)
    refused(stage.deploy("one", env=AGENT), "one: policy.toml asks for more")
    refused(stage.fleet("apply", plan, env=AGENT), "one: policy.toml asks for more")
    refused(stage.fleet("approve", plan, "--yes", env=AGENT), "only people can approve")
    refused(stage.fleet("exec", "one", "--", "true", env=AGENT), "no plan that anybody could approve")
    assert answer(host) == before
    approved = stage.fleet("approve", plan, "--yes")
    assert approved.code == 0, approved
    for words in ("signed by agent-3, who has made it", "1 host evaluated here", "approved by ann with SHA256:"):
        assert words in approved.stderr
    assert stage.fleet("policy", "explain", plan).code == 0
    applied = stage.fleet("apply", plan, "--verbose", env=AGENT)
    assert (applied.code, "policy.toml asks, and this is approved by ann" in applied.stderr) == (0, True), applied
    assert answer(host) == f"version {version}"
    last = stage.document("history", "one")["hosts"][0]["transactions"][0]
    assert (last["by"], last["intent"]) == ("agent-3", "update the shop")

    withdrawn = propose(stage, new_version(), key)
    assert stage.fleet("approve", withdrawn, "--yes").code == 0
    told = stage.fleet("withdraw", withdrawn)
    assert (told.code, "one: withdrawn, the serial is " in told.stdout) == (0, True), told
    late = stage.fleet("apply", withdrawn, env=AGENT)
    assert (late.code, "withdrawn (a plan was withdrawn)" in late.stdout + late.stderr) == (1, True), late
    assert answer(host) == f"version {version}"

    again = str(stage.folder / "again.plan")
    amended = stage.fleet("plan", "--amend", withdrawn, "--sign", "--key", str(key), "-o", again, env=AGENT)
    assert amended.code == 0, amended
    refused(stage.fleet("apply", again, env=AGENT), "one: policy.toml asks for more")
    assert stage.fleet("approve", again, "--yes").code == 0
    assert stage.fleet("apply", again, env=AGENT).code == 0
    assert answer(host) == f"version {withdrawn.rpartition('/')[2].removesuffix('.plan')}"
