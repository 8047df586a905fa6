"""Declared checks of every kind, asked on and through real hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.containers.driver import WEB, Stage, answer, new_version, running, stands_on, web

if TYPE_CHECKING:
    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab

QUICK = {"within": "2s", "interval": "200ms"}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("checked")


def port(stage: Stage) -> int:
    return stage.host("checked").port


def test_checks_of_every_kind_pass_on_a_healthy_host(stage: Stage) -> None:
    headers = {"Authorization": "Bearer x", "Host": "app.example"}
    passing: list[dict[str, Any]] = [
        {"name": "status", "http": "http://127.0.0.1:8080/", "status": [200, 204]},
        {"name": "body", "http": "http://127.0.0.1:8080/", "body": "^version [0-9]+", "headers": headers},
        {"name": "tcp", "tcp": "127.0.0.1:8080"},
        {"name": "sshd from here", "tcp": f"127.0.0.1:{port(stage)}", "from": "controller"},
        {"name": "unit", "unit": "web.service"},
        {"name": "command", "command": "test $(id -u) = 0 && busybox wget -qO- http://127.0.0.1:8080/ | grep version"},
        *({"name": f"more {number}", "tcp": "127.0.0.1:8080"} for number in range(12)),
    ]
    stage.toml({"checked": {"checks": [{**check, **QUICK} for check in passing]}})
    stage.write("checked", web(new_version()))
    run = stage.deploy("checked")
    assert (run.code, run.outcomes) == (0, {"checked": "kept"})
    after = run.told("check_reported", stage="after", passed=True)
    assert {event["check"] for event in after} == {check["name"] for check in passing}
    health = stage.document("health", "checked")["hosts"][0]
    assert health["healthy"]
    assert [one["passed"] for one in health["checks"]] == [True] * len(passing)


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ({"http": "http://127.0.0.1:8080/", "status": 204}, "200 Lab, wanted 204"),
        ({"http": "http://127.0.0.1:8080/", "body": "hello"}, "200 Lab, but its body does not match 'hello'"),
        ({"tcp": "127.0.0.1:1"}, "connection refused"),
        ({"unit": "nothing.service"}, "there is no such unit"),
        ({"command": "echo the cache is cold >&2; exit 9"}, "exit status 9: the cache is cold"),
        ({"tcp": "127.0.0.1:1", "from": "controller"}, "connection refused"),
    ],
    ids=["status", "body", "tcp", "unit", "command", "controller"],
)
def test_health_tells_why_a_check_fails(stage: Stage, check: dict[str, Any], words: str) -> None:
    if not answer(stage.host("checked")):
        stage.toml({"checked": {}})
        stage.write("checked", web(new_version()))
        stage.deploy("checked")
    stage.toml({"checked": {"checks": [{"name": "it", **check}]}})
    found = stage.document("health", "checked", code=1)["hosts"][0]
    assert (found["healthy"], found["checks"][0]["passed"], found["checks"][0]["said"]) == (False, False, words)


def test_check_that_failed_before_still_counts_unless_it_is_tolerated(stage: Stage) -> None:
    host, old = stage.host("checked"), running(stage.host("checked"))
    never = {"name": "never", "tcp": "127.0.0.1:1", **QUICK}
    stage.toml({"checked": {"checks": [WEB, never]}})
    stage.write("checked", web(version := new_version()))
    counted = stage.deploy("checked")
    assert (counted.code, counted.outcomes) == (1, {"checked": "rolled_back"})
    assert counted.failure("checked")["message"] == "check never: connection refused (within 2 s)"
    assert stands_on(host, old)

    stage.toml({"checked": {"checks": [WEB, {**never, "tolerate_existing": True}]}})
    tolerated = stage.deploy("checked", "--retry-quarantined")
    assert (tolerated.code, tolerated.outcomes) == (0, {"checked": "kept"})
    assert tolerated.hosts["checked"]["notes"] == ["check never was failing before: connection refused"]
    assert answer(host) == f"version {version}"


def test_tolerated_check_that_passed_before_counts(stage: Stage) -> None:
    host, old = stage.host("checked"), running(stage.host("checked"))
    tolerated = {**WEB, **QUICK, "tolerate_existing": True}
    stage.toml({"checked": {"checks": [tolerated]}})
    stage.write("checked", web(new_version(), status=500))
    run = stage.deploy("checked")
    assert (run.code, run.outcomes) == (1, {"checked": "rolled_back"})
    assert stands_on(host, old)


def test_check_that_flaps_does_not_prove_a_system(stage: Stage) -> None:
    """It passes every other time: never for as long as `settle`."""
    old = running(stage.host("checked"))
    flapping = "test -e /run/flap && rm /run/flap || { touch /run/flap; false; }"
    check = {"name": "flap", "command": flapping, "within": "2s", "interval": "100ms"}
    stage.toml({"checked": {"settle": "1s", "checks": [check]}})
    stage.write("checked", web(new_version()))
    run = stage.deploy("checked")
    assert run.outcomes == {"checked": "rolled_back"}
    assert run.failure("checked")["message"].startswith("check flap")
    assert running(stage.host("checked")) == old


def test_slow_service_has_the_time_that_its_check_gives(stage: Stage) -> None:
    slow = "services.slow.exec = \"/bin/sh -c 'sleep 1.5; exec ${busybox} nc -ll -p 7070 -e /bin/true'\";"
    stage.toml({"checked": {"checks": [{"tcp": "127.0.0.1:7070", "within": "20s", "interval": "200ms"}]}})
    stage.write("checked", web(new_version(), more=slow))
    run = stage.deploy("checked")
    assert (run.code, run.outcomes) == (0, {"checked": "kept"})


def test_old_system_whose_check_no_longer_passes_needs_a_human(stage: Stage) -> None:
    """The new system has destroyed what going back does not bring back."""
    host = stage.host("checked")
    host.exec("touch", "/var/lib/data")
    data = {"name": "data", "command": "test -e /var/lib/data || { echo the data is gone; false; }", **QUICK}
    stage.toml({"checked": {"checks": [data]}})
    old = running(host)
    stage.write("checked", web(new_version(), more='activationScript = "rm /var/lib/data";'))
    run = stage.deploy("checked")
    assert (run.code, run.outcomes) == (4, {"checked": "needs_human"})
    assert run.failure("checked")["now"] == (
        f"runs {old} again, but check data: exit status 1: the data is gone (within 2 s)"
    )
    assert stands_on(host, old)
