"""A workstation deploys to itself, without SSH, through the same door as to any other host."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from fleet.machine.own_link import NO_SERVER
from tests.containers.driver import (
    BUSY,
    GATE,
    SLOW,
    WEB,
    answer,
    is_open,
    logins,
    new_version,
    running,
    stands_on,
    wait_until,
    web,
)
from tests.containers.inside import Inside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab


@pytest.fixture(scope="module")
def workstation(make_lab: MakeLab) -> Inside:
    lab: Lab = make_lab("self")
    return Inside.on(lab, "self")


@pytest.fixture
def inside(workstation: Inside) -> Iterator[Inside]:
    """A workstation that runs a healthy version, with no `fleet` and no transaction on it."""
    workstation.user = "deploy"
    workstation.toml(checks=[WEB])
    if not answer(workstation.host).startswith("version"):
        workstation.write(web(new_version()))
        assert workstation.deploy().code == 0
    yield workstation
    workstation.host.exec("rm", "-f", BUSY)
    workstation.host.exec("sh", "-c", "systemctl enable --now ssh.service 2>&1")
    for pid in workstation.pids():
        workstation.host.exec("kill", "-9", pid, check=False)
    wait_until(lambda: not is_open(workstation.host), "no transaction is open")


def begin(inside: Inside, nix: str, *, confirm_timeout: str) -> None:
    """A deployment is under way in a terminal, and does not end while the host is busy."""
    inside.toml(checks=[WEB, GATE], confirm_timeout=confirm_timeout)
    inside.write(nix)
    inside.host.exec("touch", BUSY)
    inside.in_terminal("deploy", "--yes", "self")


def test_workstation_deploys_to_itself_and_a_login_to_its_own_server_proves_it(inside: Inside) -> None:
    host, before, version = inside.host, logins(inside.host), new_version()
    inside.write(web(version))
    run = inside.deploy()
    assert (run.code, run.result["outcome"], run.result["notes"]) == (0, "kept", []), run
    assert answer(host) == f"version {version}"
    assert stands_on(host, run.result["closure"])
    wait_until(lambda: logins(host) > before, "somebody has logged in")


def test_failing_check_takes_it_back(inside: Inside) -> None:
    old = running(inside.host)
    inside.write(web(new_version(), status=500))
    run = inside.deploy()
    assert (run.code, run.result["outcome"]) == (1, "rolled_back"), run
    assert "check web" in run.result["error"]["message"]
    assert stands_on(inside.host, old)


def test_terminal_that_is_killed_in_the_middle_changes_nothing(inside: Inside) -> None:
    host, version = inside.host, new_version()
    begin(inside, web(version), confirm_timeout="60s")
    wait_until(lambda: answer(host) == f"version {version}", "the new system runs")
    host.exec("sh", "-c", "kill -9 $(cat /run/terminal)")
    host.exec("rm", BUSY)
    inside.is_over()
    assert answer(host) == f"version {version}"
    assert stands_on(host, running(host))


def test_fleet_that_is_killed_while_it_proves_leaves_the_host_to_go_back(inside: Inside) -> None:
    host, old, version = inside.host, running(inside.host), new_version()
    begin(inside, web(version), confirm_timeout="3s")
    wait_until(lambda: answer(host) == f"version {version}", "the new system runs")
    host.exec("kill", "-9", *inside.pids())
    inside.is_over()
    wait_until(lambda: not is_open(host), "it has gone back")
    assert stands_on(host, old)
    assert host.exec("cat", "/run/fleet/last/state", "/run/fleet/last/blame").stdout.split() == ["reverted", "silent"]


@pytest.mark.long
def test_fleet_that_is_killed_while_it_switches_is_taken_up_again(inside: Inside) -> None:
    host, version = inside.host, new_version()
    begin(inside, web(version, more=SLOW), confirm_timeout="60s")
    wait_until(lambda: is_open(host), "it has begun")
    host.exec("kill", "-9", *inside.pids())
    inside.is_over()
    host.exec("rm", BUSY)
    run = inside.fleet("resume", "--json")
    assert (run.code, run.result["outcome"]) == (0, "kept"), run
    assert answer(host) == f"version {version}"
    assert stands_on(host, run.result["closure"])


def test_without_a_server_units_and_checks_prove_it_and_that_is_said(inside: Inside) -> None:
    inside.host.exec("sh", "-c", "systemctl disable --now ssh.service 2>&1")
    inside.write(web(new_version()))
    run = inside.deploy()
    assert (run.code, run.result["outcome"], run.result["notes"]) == (0, "kept", [NO_SERVER]), run
    inside.write(web(new_version(), status=500))
    assert inside.deploy().result["outcome"] == "rolled_back"


@pytest.mark.long
@pytest.mark.parametrize("option", ["-p 2222 -o AllowUsers=nobody", "-p 2223"], ids=["refuses", "does not answer"])
def test_new_system_that_lets_nobody_in_any_more_is_not_kept(inside: Inside, option: str) -> None:
    """Its server belongs to the closure, as on NixOS. That of Debian stays, so that the host is meant to have one."""
    server = 'services.door.exec = "/usr/sbin/sshd -D -o PidFile=none {}";'
    inside.write(web(new_version(), more=server.format("-p 2222")))
    assert inside.deploy().code == 0
    old = running(inside.host)
    inside.toml(checks=[WEB], port=2222, confirm_timeout="3s")
    inside.write(web(new_version(), more=server.format(option)))
    run = inside.deploy()
    assert (run.code, run.result["outcome"]) == (1, "rolled_back"), run
    assert re.match(r"no new (login|connection): ", run.result["error"]["message"])
    assert stands_on(inside.host, old)


@pytest.mark.long
def test_user_without_a_key_is_told_that_nobody_has_logged_in(inside: Inside) -> None:
    inside.toml(checks=[WEB], identity_file=None)
    inside.write(web(new_version()))
    run = inside.deploy()
    assert (run.code, run.result["outcome"]) == (0, "kept"), run
    (note,) = run.result["notes"]
    assert "has proven its host key and let nobody in" in note


@pytest.mark.long
def test_root_needs_no_sudo(inside: Inside) -> None:
    inside.user = "root"
    inside.toml(checks=[WEB], sudo=False, user=None)
    inside.write(web(new_version()))
    run = inside.deploy()
    assert (run.code, run.result["outcome"]) == (0, "kept"), run


@pytest.mark.long
def test_user_without_sudo_is_told_what_to_do(inside: Inside) -> None:
    inside.toml(checks=[WEB], sudo=False)
    inside.write(web(new_version()))
    run = inside.deploy()
    assert run.code == 1
    assert "fleet runs as deploy here, and this needs root" in run.result["error"]["message"]


def test_other_commands_work_there_too(inside: Inside) -> None:
    host, old = inside.host, running(inside.host)
    inside.write(web(new_version()))
    assert inside.deploy().code == 0
    new = running(host)
    (status,) = json.loads(inside.fleet("status", "--json").stdout)["hosts"]
    assert (status["reachable"], status["running"]) == (True, new)
    (health,) = json.loads(inside.fleet("health", "--json").stdout)["hosts"]
    assert health["healthy"]
    (generations,) = json.loads(inside.fleet("generations", "--json").stdout)["hosts"]
    assert new in [one["closure"] for one in generations["generations"]]
    inside.write(web(new_version()))
    assert inside.fleet("diff").code == 0
    assert inside.fleet("ssh", "self", "--", "id -un; pwd").stdout.split() == ["deploy", "/home/deploy"]
    back = inside.fleet("rollback", "self", "--json", "--yes")
    assert (back.code, back.result["outcome"]) == (0, "kept"), back
    assert stands_on(host, old)


def test_machine_with_another_key_is_another_machine(inside: Inside) -> None:
    inside.toml(
        checks=[WEB], host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEdy1O4RrRfvmFzGMLzwmP1bs5JEaGBSjPw3YFTCXq7V"
    )
    run = inside.deploy()
    assert (run.code, run.result["error"]["kind"]) == (1, "unfit"), run
    assert "this machine is another: /etc/ssh does not have its host_key" in run.result["error"]["message"]
