"""Ways in: host keys, users, sudo, jump hosts, addresses. What is refused leaves the host as it was."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import WEB, Stage, answer, new_version, running, stands_on, web

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab

OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMzO7IZ+F5x+jLVvQUgo1qXMmnIMRnrABJmgSHClxH0E"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("door", "bastion")


def host_key(stage: Stage, name: str) -> str:
    return str(tomllib.loads(stage.lab.folder.inventory.read_text())["hosts"][name]["host_key"])


def test_unknown_host_key_is_refused_and_trust_makes_it_work(stage: Stage) -> None:
    host, old = stage.host("door"), running(stage.host("door"))
    path = stage.toml({"door": {"host_key": None, "checks": [WEB]}})
    stage.write("door", web(new_version()))
    run = stage.deploy("door")
    assert (run.code, run.outcomes, run.failure("door")["kind"]) == (1, {"door": "failed"}, "host_key")
    assert run.failure("door")["hint"].startswith("fleet trust door ")
    assert stands_on(host, old)

    asked = stage.fleet("trust", "door")
    assert (asked.code, "--yes" in asked.stderr, "SHA256:" in asked.stderr) == (2, True, True)
    assert stage.fleet("trust", "door", "--yes").code == 0
    assert tomllib.loads(path.read_text())["hosts"]["door"]["host_key"] == host_key(stage, "door")
    assert stage.deploy("door").outcomes == {"door": "kept"}


def test_wrong_host_key_is_refused(stage: Stage) -> None:
    old = running(stage.host("door"))
    stage.toml({"door": {"host_key": OTHER_KEY}})
    stage.write("door", web(new_version()))
    run = stage.deploy("door")
    assert (run.code, run.outcomes, run.failure("door")["kind"]) == (1, {"door": "failed"}, "host_key")
    assert running(stage.host("door")) == old
    ssh = stage.fleet("ssh", "door", "--", "true")
    assert ssh.code != 0


def test_key_that_the_host_does_not_know_is_an_authentication_error(stage: Stage, tmp_path: Path) -> None:
    other = tmp_path / "key"
    other.write_text((stage.lab.folder.path / "keys/bastion").read_text())
    other.chmod(0o600)
    stage.toml({"door": {"identity_file": str(other)}})
    run = stage.deploy("door")
    assert (run.code, run.outcomes, run.failure("door")["kind"]) == (1, {"door": "failed"}, "authentication")


def test_user_without_root_is_told_what_to_set(stage: Stage) -> None:
    stage.toml({"door": {"user": "deploy"}})
    run = stage.deploy("door")
    assert (run.code, run.failure("door")["kind"]) == (1, "authentication")
    assert run.failure("door")["hint"] == 'set user = "root", or sudo = true, for this host'


@pytest.mark.parametrize(
    ("user", "sudo", "password"),
    [("deploy", True, None), ("operator", "password", "operator")],
    ids=["passwordless", "with a password"],
)
def test_user_becomes_root_by_sudo(stage: Stage, user: str, sudo: object, password: str | None) -> None:
    version = new_version()
    stage.write("door", web(version))
    stage.toml({"door": {"user": user, "sudo": sudo, "checks": [WEB, {"command": "test $(id -u) = 0"}]}})
    env = {"FLEET_SUDO_PASSWORD": password} if password else {}
    run = stage.deploy("door", env=env)
    assert (run.code, run.outcomes) == (0, {"door": "kept"})
    assert answer(stage.host("door")) == f"version {version}"
    assert stands_on(stage.host("door"), run.hosts["door"]["closure"])
    told = run.stdout + run.stderr + "".join(path.read_text() for path in stage.home.rglob("*.jsonl"))
    assert '"operator"' not in told


def test_wrong_sudo_password_is_refused_once_and_nowhere_shown(stage: Stage) -> None:
    old = running(stage.host("door"))
    stage.toml({"door": {"user": "operator", "sudo": "password"}})
    run = stage.deploy("door", env={"FLEET_SUDO_PASSWORD": "hunter2-wrong"})
    assert (run.code, run.outcomes, run.failure("door")["kind"]) == (1, {"door": "failed"}, "authentication")
    assert "hunter2" not in run.stdout + run.stderr
    assert running(stage.host("door")) == old
    nobody = stage.deploy("door")
    assert (nobody.code, nobody.error["hint"]) == (2, "set FLEET_SUDO_PASSWORD")


def test_sudo_that_wants_a_password_nobody_expected_says_so(stage: Stage) -> None:
    stage.toml({"door": {"user": "operator", "sudo": True}})
    run = stage.deploy("door")
    assert (run.code, run.failure("door")["kind"]) == (1, "authentication")
    assert 'sudo = "password"' in run.failure("door")["hint"]


def test_host_behind_a_bastion_is_reached_through_it(stage: Stage) -> None:
    inside = stage.host("door").exec("hostname", "-i").stdout.split()[0]
    version = new_version()
    stage.write("door", web(version))
    behind = {"address": inside, "port": 22, "jump": "bastion", "checks": [WEB]}
    stage.toml({"bastion": {}, "door": behind})
    run = stage.deploy("door")
    assert (run.code, run.outcomes) == (0, {"door": "kept"})
    assert answer(stage.host("door")) == f"version {version}"
    words = stage.fleet("ssh", "door", "--", "hostname")
    assert (words.code, words.stdout) == (0, "door\n"), words

    stage.toml({"bastion": {"port": 1}, "door": behind})
    lost = stage.deploy("door")
    assert (lost.code, lost.outcomes, lost.failure("door")["kind"]) == (1, {"door": "failed"}, "unreachable")


def test_first_address_that_answers_is_used(stage: Stage) -> None:
    stage.toml({"door": {"address": ["127.0.0.9", "nowhere.invalid", "127.0.0.1"]}})
    assert stage.document("status", "door")["hosts"][0]["reachable"]
    stage.toml({"door": {"address": ["127.0.0.9", "nowhere.invalid"]}})
    assert not stage.document("status", "door", code=1)["hosts"][0]["reachable"]


def test_ssh_runs_a_command_as_a_deployment_would_log_in(stage: Stage) -> None:
    stage.toml({"door": {}})
    said = stage.fleet("ssh", "door", "--", "echo", "hello; id -un")
    assert (said.code, said.stdout) == (0, "hello\nroot\n"), said
    assert stage.fleet("ssh", "door", "--", "exit", "7").code == 7
