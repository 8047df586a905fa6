"""Many hosts: waves, limits, and hosts that are not there. One dead host never ruins a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import WEB, Stage, answer, new_version, running, stands_on, web

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab

HOSTS = ("canary", "second", "third")
WAVES = {"waves": [{"hosts": "canary"}]}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(*HOSTS)


@pytest.fixture
def off(stage: Stage) -> Iterator[str]:
    """A host without power."""
    stage.host("third").power_off()
    yield "third"
    stage.host("third").power_on()


def write(stage: Stage, *, bad: str = "") -> str:
    version = new_version()
    for name in HOSTS:
        stage.write(name, web(version, status=503 if name == bad else 200))
    return version


def tables(**more: dict[str, object]) -> dict[str, dict[str, object]]:
    return {name: {"checks": [{**WEB, "within": "2s"}], **more.get(name, {})} for name in HOSTS}


def test_waves_go_one_after_another_and_at_once_limits_each(stage: Stage) -> None:
    write(stage)
    stage.toml(tables(), rollout={"waves": [{"hosts": "canary"}, {"hosts": "second,third"}], "at_once": 1})
    run = stage.deploy("--all")
    assert (run.code, run.outcomes) == (0, dict.fromkeys(HOSTS, "kept"))
    assert [event["hosts"] for event in run.told("wave_started")] == [["canary"], ["second", "third"]]
    order = [
        (event["event"], event["host"])
        for event in run.events
        if event["event"] == "host_finished" or event.get("phase") == "push"
    ]
    assert order == [pair for name in HOSTS for pair in (("phase_started", name), ("host_finished", name))]


def test_bad_canary_stops_the_later_waves(stage: Stage) -> None:
    old = {name: running(stage.host(name)) for name in HOSTS}
    write(stage, bad="canary")
    stage.toml(tables(), rollout=WAVES)
    run = stage.deploy("--all")
    assert run.code == 1
    assert run.outcomes == {"canary": "rolled_back", "second": "skipped", "third": "skipped"}
    assert run.failure("second")["message"] == "not begun: 1 of the hosts before it ended badly (max_failures)"
    assert all(stands_on(stage.host(name), old[name]) for name in HOSTS)
    assert [event["wave"] for event in run.told("wave_started")] == [1]


def test_one_failure_that_is_allowed_stops_nothing(stage: Stage) -> None:
    version = write(stage, bad="canary")
    stage.toml(tables(), rollout={**WAVES, "max_failures": 1})
    run = stage.deploy("--all")
    assert run.code == 1
    assert run.outcomes == {"canary": "rolled_back", "second": "kept", "third": "kept"}
    assert answer(stage.host("third")) == f"version {version}"


def test_offline_laptop_is_deferred_and_the_rest_is_fine(stage: Stage, off: str) -> None:
    version = write(stage)
    stage.toml(tables(third={"kind": "laptop"}))
    run = stage.deploy("--all")
    assert (run.code, run.outcomes) == (0, {"canary": "kept", "second": "kept", "third": "deferred"})
    assert run.failure("third")["kind"] == "unreachable"
    assert run.failure("third")["now"] == "nothing was changed"
    assert answer(stage.host("canary")) == f"version {version}"


def test_offline_server_fails_and_the_others_go_on(stage: Stage, off: str) -> None:
    version = write(stage)
    stage.toml(tables(), rollout=WAVES)
    run = stage.deploy("--all")
    assert (run.code, run.outcomes) == (1, {"canary": "kept", "second": "kept", "third": "failed"})
    assert answer(stage.host("second")) == f"version {version}"
    status = stage.document("status", code=1)["hosts"]
    assert [host["reachable"] for host in status] == [True, True, False]
    assert status[2]["error"]["kind"] == "unreachable"


def test_all_or_nothing_stops_everything_before_it_is_built(stage: Stage, off: str) -> None:
    old = running(stage.host("canary"))
    write(stage)
    stage.toml(tables())
    run = stage.deploy("--all", "--all-or-nothing")
    assert (run.code, run.outcomes) == (1, {"canary": "skipped", "second": "skipped", "third": "failed"})
    assert run.failure("canary")["message"] == "all or nothing, and third cannot take part"
    assert not run.told("evaluation_finished")
    assert stands_on(stage.host("canary"), old)


def test_selectors_choose_hosts(stage: Stage) -> None:
    old = running(stage.host("canary"))
    version = write(stage)
    stage.toml(tables(second={"tags": ["prod"]}, third={"kind": "gpu", "tags": ["prod"]}))
    run = stage.deploy("@prod,!kind:gpu")
    assert (run.code, run.outcomes) == (0, {"second": "kept"})
    assert answer(stage.host("second")) == f"version {version}"
    assert running(stage.host("canary")) == old
