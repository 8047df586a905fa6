"""Ways in: host keys, users, sudo, jump hosts, addresses. What is refused leaves the host as it was."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import WEB, Stage, answer, new_version, running, stands_on, wait_until, web
from tests.containers.files import SSHD_ANEW
from tests.sshd_real import agent, keygen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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


@pytest.mark.parametrize(
    ("user", "sudo", "password"),
    [("deploy", True, None), ("operator", "password", "operator")],
    ids=["passwordless", "with a password"],
)
def test_command_runs_as_root_by_sudo_and_is_ended_with_us(
    stage: Stage, user: str, sudo: object, password: str | None
) -> None:
    host = stage.host("door")
    stage.toml({"door": {"user": user, "sudo": sudo}})
    env = {"FLEET_SUDO_PASSWORD": password} if password else {}
    run = stage.fleet("exec", "door", "--", "id -un; cat", env=env)
    assert (run.code, run.stdout, run.stderr) == (0, "door (exit 0)\n  root\n", "")
    run = stage.fleet("exec", "door", "--timeout", "1s", "--", "sleep 4713 & sleep 4713", env=env)
    assert (run.code, run.stdout) == (1, "door (exit 124, out of time)\n")
    wait_until(lambda: host.exec("pgrep", "-f", "sleep 4713", check=False).status == 1, "the command is gone")


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


@pytest.fixture
def many_keys(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment with an agent that has seven keys, and the right one is not among them."""
    keys = [tmp_path / f"other-{number}" for number in range(7)]
    for key in keys:
        keygen(key)
    with agent(tmp_path, *keys) as path:
        yield {"SSH_AUTH_SOCK": path}


def test_keys_in_the_agent_do_not_stand_in_the_way_of_the_named_one(stage: Stage, many_keys: dict[str, str]) -> None:
    stage.toml({"door": {}})
    assert stage.fleet("status", "door", env=many_keys).code == 0


def test_too_many_keys_are_a_failure_and_never_a_deferral(stage: Stage, many_keys: dict[str, str]) -> None:
    path = stage.toml({"door": {"offline": "defer"}})
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("identity_file")))
    run = stage.deploy("door", env=many_keys)
    assert (run.code, run.outcomes, run.failure("door")["kind"]) == (1, {"door": "failed"}, "authentication")
    assert "Too many authentication failures" in run.failure("door")["message"]
    assert any(line.startswith("offered: ssh-ed25519 ") for line in run.failure("door")["said"])


def test_changed_host_key_is_called_that(stage: Stage) -> None:
    stage.toml({"door": {"host_key": OTHER_KEY}})
    message = stage.deploy("door").failure("door")["message"]
    assert "ANOTHER key" in message
    assert message.count("SHA256:") == 2


@pytest.fixture
def busy_sshd(stage: Stage) -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
    """sshd on the host takes one login at a time; inside of what is given, none that is new."""
    host, config = stage.host("door"), "/etc/ssh/sshd_config.d/zz-busy.conf"  # of MaxStartups the last one counts
    host.exec("sh", "-c", f"echo MaxStartups 1 >{config}; {SSHD_ANEW}")
    port = int(tomllib.loads(stage.lab.folder.inventory.read_text())["hosts"]["door"]["port"])

    @contextlib.contextmanager
    def busy() -> Iterator[None]:
        with socket.create_connection(("127.0.0.1", port)) as taken:
            assert taken.recv(100).startswith(b"SSH-")
            yield

    yield busy
    host.exec("sh", "-c", f"rm {config}; {SSHD_ANEW}")


def test_busy_sshd_does_not_make_a_healthy_host_go_back(
    stage: Stage, busy_sshd: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    version = new_version()
    stage.write("door", web(version))
    stage.toml({"door": {"checks": [WEB]}}, confirm_timeout="4s")
    run = stage.start("deploy", "--json", "--yes", "door")
    run.wait_for("phase_started", phase="switch")
    with busy_sshd():
        run.wait_for("host_switched")
        time.sleep(7)  # longer than the host waits for a look
        assert run.process.poll() is None
    run.end()
    assert (run.code, run.outcomes) == (0, {"door": "kept"})
    assert stands_on(stage.host("door"), run.hosts["door"]["closure"])


@pytest.mark.long
def test_sshd_that_stays_busy_makes_the_host_go_back_without_blame(
    stage: Stage, busy_sshd: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    old = running(stage.host("door"))
    stage.write("door", web(new_version()))
    stage.toml({"door": {"checks": [WEB]}}, confirm_timeout="3s")
    run = stage.start("deploy", "--json", "--yes", "door")
    run.wait_for("phase_started", phase="switch")
    with busy_sshd():
        run.wait_for("host_condemned")
    run.end()  # by a new login, which the way back is proven with too
    assert (run.outcomes, run.failure("door")["kind"]) == ({"door": "rolled_back"}, "silent")
    words = "(Not allowed at this time|Exceeded MaxStartups)"  # of OpenSSH 10, and of earlier ones
    assert re.search(f'takes no login now: "{words}"', run.failure("door")["message"])
    assert stands_on(stage.host("door"), old)
    again = stage.deploy("door")
    assert again.outcomes == {"door": "kept"}  # it is not quarantined


INSTALLER = """#!/bin/sh
# Takes nixos-anywhere's place: what it is given below the root of a host gets there, and nothing is erased.
set -eu
echo "$@" >"$0.log"
while [ $# -gt 0 ]; do
    case $1 in
        --extra-files) files=$2 ;;
        -i) key=$2 ;;
        -p) port=$2 ;;
        --target-host) there=$2 ;;
    esac
    shift
done
[ ! -e "$0.fails" ] || exit 7
tar -C "$files" -c . | ssh -i "$key" -p "$port" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "$there" \\
    'tar -C / --no-same-owner -x && systemctl restart ssh'
"""


def test_an_installed_host_has_the_key_it_was_given_and_is_deployed_to(stage: Stage, tmp_path: Path) -> None:
    host, theirs = stage.host("door"), "/etc/ssh/ssh_host_ed25519_key"
    program = tmp_path / "bin" / "nixos-anywhere"
    program.parent.mkdir()
    program.write_text(INSTALLER)
    program.chmod(0o755)
    path = stage.toml({"door": {"host_key": None, "checks": [WEB]}})
    before = path.read_text()
    table = tomllib.loads(before)["hosts"]["door"]
    version = new_version()
    stage.write("door", web(version))
    words = ("install", "door", "--yes", "--port", str(table["port"]), "--user", str(table.get("user", "root")))
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    try:
        (tmp_path / "bin" / "nixos-anywhere.fails").touch()
        failed = stage.fleet(*words, env=environment)
        assert (failed.code, failed.stderr) == (3, "error: door: nixos-anywhere ended with exit status 7\n")
        assert path.read_text() == before

        (tmp_path / "bin" / "nixos-anywhere.fails").unlink()
        host.exec("cp", "-p", theirs, "/root/")
        run = stage.fleet(*words, env=environment)
        assert run.code == 0, run.stderr
        assert answer(host) == f"version {version}"
        written = tomllib.loads(path.read_text())["hosts"]["door"]["host_key"]
        assert written == " ".join(host.exec("cat", f"{theirs}.pub").stdout.split()[:2]) != host_key(stage, "door")
        assert "pass  web" in run.stdout
        again = stage.fleet(*words, env=environment)
        assert (again.code, "it seems to be installed" in again.stderr) == (2, True)
    finally:
        host.exec("cp", "-p", "/root/ssh_host_ed25519_key", "/etc/ssh/", check=False)
        host.exec("systemctl", "restart", "ssh")
