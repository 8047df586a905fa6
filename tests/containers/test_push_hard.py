"""Pushes to hosts that make it hard: one session at a time, a password for root, a disk that fills up meanwhile."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from fleet.lab import faults
from tests.containers.closures import has, many, requisites
from tests.containers.driver import Stage, running, wait_until
from tests.containers.files import SSHD_ANEW
from tests.containers.test_push_engines import ENGINES
from tests.pushes import relay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("one")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def sshd_says(host: LabHost, line: str) -> Iterator[None]:
    """sshd keeps to this line as well."""
    file = "/etc/ssh/sshd_config.d/00-hard.conf"
    host.exec("sh", "-c", f"echo '{line}' >{file} && {SSHD_ANEW}")
    try:
        yield
    finally:
        host.exec("sh", "-c", f"rm {file}; {SSHD_ANEW}")


def test_a_host_with_one_session_at_a_time_gets_everything(stage: Stage, engine: str) -> None:
    closure = many(stage)
    stage.toml({"one": {}})
    with sshd_says(stage.host("one"), "MaxSessions 1"):
        run = stage.fleet("push", "one", "--closure", closure, "--json", "--copy-with", engine)
    assert run.outcomes == {"one": "staged"}, run
    assert has(stage.host("one"), closure)


def test_a_password_for_root_is_no_part_of_what_is_pushed(stage: Stage, engine: str) -> None:
    closure = many(stage)
    stage.toml({"one": {"user": "operator", "sudo": "password"}})
    env = {"FLEET_SUDO_PASSWORD": "operator"}
    run = stage.fleet("push", "one", "--closure", closure, "--json", "--copy-with", engine, env=env)
    assert run.outcomes == {"one": "staged"}, run
    assert has(stage.host("one"), closure)


def test_a_disk_that_fills_up_meanwhile_fails_the_push_and_nothing_else(stage: Stage, engine: str) -> None:
    closure = many(stage, count=10, kib=512)
    parts = [path for path in requisites(closure) if "-part-" in path]
    host = stage.host("one")
    old = running(host)
    faults.give_disk(host, "/nix")
    with relay(stage.lab, "one", "--rate", "6mbit") as port:
        stage.toml({"one": {"port": port}})
        run = stage.start("push", "one", "--closure", closure, "--json", "--copy-with", engine)
        wait_until(
            lambda: len(host.exec("nix-store", "--check-validity", "--print-invalid", *parts).stdout.split()) < 10,
            "the first part is there",
        )
        faults.fill(host, "/nix")
        run.end()
    try:
        assert (run.code, run.outcomes, run.failure("one")["kind"]) == (1, {"one": "failed"}, "push"), run
        told = run.failure("one")
        assert "No space left on device" in told["message"] + " ".join(told["said"])
        assert running(host) == old
    finally:
        faults.restore(host)
    stage.toml({"one": {}})
    again = stage.fleet("push", "one", "--closure", closure, "--json", "--copy-with", engine)
    assert again.outcomes == {"one": "staged"}, again
    assert has(host, closure)
