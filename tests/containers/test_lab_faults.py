"""The lab's faults are what they say, and none outlives `restore`."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.errors import CommandFailedError, ConfigError
from fleet.lab import LabHost, faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab

FLEET = str(Path(sys.executable).with_name("fleet"))


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("one")


@pytest.fixture
def host(lab: Lab) -> Iterator[LabHost]:
    host = lab.host("one")
    yield host
    faults.restore(host)
    assert greets(host)
    assert can_write(host, "/nix")
    assert can_write(host, "/boot")


def greets(host: LabHost) -> bool:
    """Whether a new connection is answered."""
    try:
        with socket.create_connection(("127.0.0.1", host.port), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def can_write(host: LabHost, folder: str) -> bool:
    script = f"echo something >{folder}/probe && [ -s {folder}/probe ] && rm {folder}/probe"
    return host.exec("sh", "-c", script, check=False).status == 0


def still_answers(connection: socket.socket) -> bool:
    """Whether a connection that sshd has greeted on still gets an answer."""
    connection.sendall(b"SSH-2.0-probe\r\n")
    try:
        return len(connection.recv(100)) > 0
    except TimeoutError:
        return False


@pytest.mark.parametrize("new_only", [False, True])
def test_a_cut_lets_no_connection_in_and_standing_ones_live_only_if_asked(host: LabHost, *, new_only: bool) -> None:
    with socket.create_connection(("127.0.0.1", host.port), timeout=2) as standing:
        assert standing.recv(4) == b"SSH-"
        while not standing.recv(1).endswith(b"\n"):
            pass
        faults.cut(host, new_only=new_only)
        assert not greets(host)
        assert still_answers(standing) == new_only
    faults.restore(host)
    assert greets(host)


def test_a_cut_spares_what_a_host_says_to_itself(host: LabHost) -> None:
    faults.cut(host)
    script = "busybox nc -l -p 7070 -e /bin/echo heard & sleep 0.2; busybox nc 127.0.0.1 7070"
    assert host.exec("timeout", "5", "sh", "-c", script).stdout == "heard\n"


@pytest.mark.parametrize("folder", ["/nix", "/boot"])
def test_full_disk_takes_nothing_more_and_is_a_disk_of_its_own(host: LabHost, folder: str) -> None:
    faults.fill(host, folder)
    assert not can_write(host, folder)
    assert host.exec("mountpoint", "-q", folder).status == 0
    assert can_write(host, "/var")
    faults.restore(host)
    assert host.exec("nix-store", "--verify", "--check-contents").status == 0
    assert host.exec("nix", "store", "ping").status == 0
    host.power_off()
    host.power_on()
    assert host.exec("mountpoint", "-q", folder).status == 0
    faults.fill(host, folder)
    assert not can_write(host, folder)


@pytest.mark.parametrize("folder", ["/nix", "/boot"])
def test_read_only_disk_is_read_and_not_written(host: LabHost, folder: str) -> None:
    faults.make_read_only(host, folder)
    assert not can_write(host, folder)
    assert host.exec("ls", folder).stdout


def test_other_folders_cannot_be_filled(host: LabHost) -> None:
    with pytest.raises(ConfigError):
        faults.fill(host, "/")


def test_frozen_host_keeps_its_connections_and_answers_none(host: LabHost) -> None:
    with socket.create_connection(("127.0.0.1", host.port), timeout=1) as standing:
        assert standing.recv(100)
        faults.freeze(host)
        assert not greets(host)
        assert not still_answers(standing)
        faults.restore(host)
        standing.settimeout(10)
        assert standing.recv(100)


def test_restore_brings_the_power_back(host: LabHost) -> None:
    host.power_off()
    faults.restore(host)
    assert greets(host)


def test_people_cut_fill_and_restore(lab: Lab, host: LabHost) -> None:
    def run(*arguments: str) -> str:
        argv = [FLEET, "lab", *arguments, "--dir", str(lab.folder.path)]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stderr

    assert run("fill", "one", "--prepare") == "one: /nix has a disk of its own\n"
    assert can_write(host, "/nix")
    assert run("cut", "one", "--new-only") == "one: lets no new connection in\n"
    assert run("cut", "one") == "one: cut off the network\n"
    assert run("fill", "one", "/boot") == "one: /boot is full\n"
    assert (greets(host), can_write(host, "/boot"), can_write(host, "/nix")) == (False, False, True)
    assert run("restore", "one") == "one: restored\n"
    assert (greets(host), can_write(host, "/boot")) == (True, True)


def test_slow_link_is_what_fleet_toml_leads_over_until_it_ends(lab: Lab, host: LabHost) -> None:
    inventory = lab.folder.inventory
    before = inventory.read_text()
    with faults.slow(lab, "one", rate="1mbit", delay="100ms") as port:
        assert f"port = {port}\n" in inventory.read_text()
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            assert connection.recv(4) == b"SSH-"
        assert time.monotonic() - started > 0.09
    assert inventory.read_text() == before
    with pytest.raises(ConfigError, match="furlongs"), faults.slow(lab, "one", rate="furlongs", delay="1ms"):
        pass
    assert inventory.read_text() == before


def test_people_put_a_slow_link_before_a_host_and_end_it(lab: Lab) -> None:
    before = lab.folder.inventory.read_text()
    argv = [FLEET, "lab", "slow", "one", "--rate", "1mbit", "--dir", str(lab.folder.path)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as link:
        assert link.stderr is not None
        assert "1mbit, 25ms" in link.stderr.readline()
        link.send_signal(signal.SIGINT)
        assert link.stderr.read().strip() == "one: its own link again"
    assert lab.folder.inventory.read_text() == before


def test_a_host_that_fails_to_be_broken_says_so(host: LabHost) -> None:
    with pytest.raises(CommandFailedError):
        host.exec("lab-disk", "give", "/nowhere", "16")
