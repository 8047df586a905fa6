"""Both engines of a push keep the same promises, on real hosts."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from fleet import inventory
from fleet.host.program import source
from fleet.machine.link import SshLink
from fleet.machine.login import Logins
from fleet.machine.patched import PLAIN
from fleet.model import RunId
from fleet.steps.deliver import Delivery, end_others
from tests.containers.closures import has, many, nar_bytes, requisites
from tests.containers.driver import Stage, new_version, wait_until, web
from tests.pushes import relay

if TYPE_CHECKING:
    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab

ENGINES = ("serve", "nix")


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("one", "two")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(("way", "plain"), [("root", "0"), ("sudo", "0"), ("root", "1")], ids=["root", "sudo", "plain"])
def test_a_closure_arrives_whole_and_is_counted(
    stage: Stage, engine: str, monkeypatch: pytest.MonkeyPatch, way: str, plain: str
) -> None:
    monkeypatch.setenv(PLAIN, plain)
    closure = many(stage)
    table = {} if way == "root" else {"user": "deploy", "sudo": True}
    stage.toml({"one": table})
    run = stage.fleet("push", "one", "--closure", closure, "--json", "--copy-with", engine)
    assert run.outcomes == {"one": "staged"}, run
    assert has(stage.host("one"), closure)
    (pushed,) = run.told("push_finished")
    size = nar_bytes(*requisites(closure))
    assert size <= pushed["wire_bytes"] < size + len(source()) + 100_000  # the host program, the first time
    assert pushed["paths"] >= 13
    again = stage.fleet("push", "one", "--closure", closure, "--json", "--copy-with", engine)
    assert again.told("push_finished")[0]["wire_bytes"] < 50_000


REFUSES = """\
#!/bin/sh
case $* in *--serve*) echo "error: unrecognised flag '--serve'" >&2; exit 1 ;; esac
exec /usr/bin/nix-store "$@"
"""


def test_host_whose_nix_has_no_serve_any_more_is_pushed_to_with_nix_copy(stage: Stage) -> None:
    host, closure = stage.host("one"), many(stage)
    host.exec("sh", "-c", 'printf %s "$1" >/usr/local/bin/nix-store; chmod 755 /usr/local/bin/nix-store', "sh", REFUSES)
    try:
        stage.toml({"one": {}})
        run = stage.fleet("push", "one", "--closure", closure, "--json")
    finally:
        host.exec("rm", "/usr/local/bin/nix-store")
    assert run.outcomes == {"one": "staged"}, run
    assert has(host, closure)
    (note,) = run.told("finding_reported", kind="not_served")
    assert "unrecognised flag '--serve'" in note["message"]


def test_two_hosts_get_it_at_once(stage: Stage, engine: str) -> None:
    closure = many(stage)
    stage.toml({"one": {}, "two": {}})
    run = stage.fleet("push", "--all", "--closure", closure, "--json", "--copy-with", engine)
    assert run.outcomes == {"one": "staged", "two": "staged"}, run
    assert has(stage.host("one"), closure)
    assert has(stage.host("two"), closure)


def test_it_can_be_deployed(stage: Stage, engine: str) -> None:
    stage.write("one", web(new_version()))
    stage.toml({"one": {}})
    run = stage.deploy("one", "--copy-with", engine)
    assert run.outcomes == {"one": "kept"}, run


def test_a_host_that_builds_itself_gets_the_derivations(stage: Stage, engine: str) -> None:
    stage.write("one", web(new_version()))
    stage.toml({"one": {"build_on": "target"}})
    run = stage.deploy("one", "--copy-with", engine)
    assert run.outcomes == {"one": "kept"}, run


def test_a_server_that_dies_fails_the_push_and_the_next_one_sends_only_the_rest(stage: Stage, engine: str) -> None:
    closure = many(stage, count=10, kib=512)
    paths = requisites(closure)
    with relay(stage.lab, "one", "--rate", "6mbit") as port:
        stage.toml({"one": {"port": port}})
        run = stage.start("push", "one", "--closure", closure, "--json", "--copy-with", engine)
        host = stage.host("one")
        parts = [path for path in paths if "-part-" in path]

        def some_arrived() -> bool:
            lacking = host.exec("nix-store", "--check-validity", "--print-invalid", *parts).stdout.split()
            return len(lacking) <= 8

        wait_until(some_arrived, "two of ten parts are there")
        server = "nix-store --serve" if engine == "serve" else "nix-daemon --stdio"
        assert host.exec("pkill", "-KILL", "-f", server, check=False).status == 0, run
        run.end()
    assert run.hosts["one"]["outcome"] == "failed", run
    assert run.hosts["one"]["error"]["kind"] == "push"
    stage.toml({"one": {}})
    again = stage.fleet("push", "one", "--closure", closure, "--json", "--copy-with", engine)
    assert has(host, closure)
    assert again.told("push_finished")[0]["wire_bytes"] < nar_bytes(*paths) * 0.85


@pytest.mark.long
def test_a_link_that_is_cut_fifty_times_still_brings_all(stage: Stage) -> None:
    closure = many(stage, count=60, kib=64)
    with relay(stage.lab, "two", "--cut-after", "20000", "200000", "--cuts", "50") as port:
        stage.toml({"two": {"port": port}})
        runs = [stage.fleet("push", "two", "--closure", closure, "--json")]
        while runs[-1].code and len(runs) < 51:
            runs.append(stage.fleet("push", "two", "--closure", closure, "--json"))
    assert runs[-1].outcomes == {"two": "staged"}, runs[-1]
    assert has(stage.host("two"), closure)


def test_a_server_that_waits_on_a_lost_connection_is_ended_and_no_other(stage: Stage) -> None:
    """It would hold the lock of the path that was cut off, and the next try would wait for it."""
    file = stage.toml({"one": {}})
    host = stage.host("one")
    for mark in ("aaaaaa", "bbbbbb"):
        marked = f"--setenv=FLEET_PUSH=20261120T000000-{mark}"
        host.exec("systemd-run", "--collect", f"--unit=serve-{mark}", marked, "/usr/bin/sleep", "1000")

    def alive(mark: str) -> bool:
        return host.exec("systemctl", "is-active", f"serve-{mark}", check=False).stdout.strip() == "active"

    async def end() -> None:
        (known,) = inventory.load(file).hosts.values()
        link = SshLink(Logins({}), known)
        run = RunId("20261120T000000-aaaaaa")
        await end_others(link, Delivery(host=known, run=run, wanted=(), tops=()))
        await link.close()

    assert alive("aaaaaa")
    busy = (
        "--setenv=FLEET_PUSH=20261120T000000-aaaaaa",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=64k",
        "count=300000",
    )
    host.exec("systemd-run", "--unit=busy", "--remain-after-exit", *busy)  # some seconds of reading
    asyncio.run(end())
    assert host.exec("systemctl", "show", "--property=Result", "busy").stdout.strip() == "Result=success"
    host.exec("systemctl", "stop", "busy")
    wait_until(lambda: not alive("aaaaaa"), "the one of this run is gone")
    assert alive("bbbbbb")
    host.exec("systemctl", "stop", "serve-bbbbbb")


def test_a_path_whose_bytes_changed_here_is_refused_there(stage: Stage, engine: str) -> None:
    closure = many(stage, count=1)
    (part,) = (path for path in requisites(closure) if "-part-" in path)
    os.chmod(part, 0o644)  # noqa: PTH101
    with open(part, "r+b") as file:  # noqa: PTH123
        file.write(b"changed")
    stage.toml({"one": {}})
    run = stage.fleet("push", "one", "--closure", closure, "--json", "--copy-with", engine)
    error = run.hosts["one"]["error"]
    assert (run.code, error["kind"]) == (1, "push")
    assert "hash mismatch" in error["message"] + " ".join(error["said"])
    assert not has(stage.host("one"), closure)
    subprocess.run(["nix-store", "--delete", closure, part], check=True, capture_output=True)
