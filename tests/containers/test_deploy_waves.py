"""Many hosts: waves, limits, and hosts that are not there. One dead host never ruins a run."""

from __future__ import annotations

import os
import re
import subprocess
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import WEB, Stage, answer, new_version, running, stands_on, wait_until, web
from tests.tools import git

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
    assert (run.code, run.outcomes) == (0, dict.fromkeys(HOSTS, "kept")), run
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
    assert (run.code, run.outcomes) == (1, {"canary": "kept", "second": "kept", "third": "failed"}), run
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


THREE = {"waves": [{"hosts": name} for name in HOSTS]}


def test_failed_run_takes_back_what_it_has_changed_and_proves_that(stage: Stage) -> None:
    write(stage)
    stage.toml(tables())
    assert stage.deploy("--all").code == 0
    old = {name: running(stage.host(name)) for name in HOSTS}
    write(stage, bad="second")
    stage.toml(tables(), rollout={**THREE, "undo_on_failure": True})
    run = stage.deploy("--all")
    assert run.code == 1
    assert run.outcomes == {"canary": "rolled_back", "second": "rolled_back", "third": "skipped"}
    assert run.failure("canary")["kind"] == "undone"
    assert run.failure("second")["kind"] == "unhealthy"
    assert all(stands_on(stage.host(name), old[name]) for name in HOSTS)
    (undo,) = run.told("undo_started")
    assert undo["hosts"] == ["canary"]
    assert stage.document("runs")["runs"][0]["run"] == undo["undo"]
    (there,) = stage.document("status", "canary")["hosts"]
    assert run.hosts["canary"]["closure"] not in there["quarantined"]


def test_host_that_gets_unwell_while_its_wave_soaks_stops_the_rest(stage: Stage) -> None:
    old = running(stage.host("second"))
    version = write(stage)
    stage.toml(tables(), rollout={"waves": [{"hosts": "canary", "soak": "60s"}]})
    run = stage.start("deploy", "--json", "--yes", "--all")
    run.wait_for("soak_started")
    stage.host("canary").exec("systemctl", "stop", "web")
    run.end()
    assert (run.code, run.outcomes) == (1, {"canary": "kept", "second": "skipped", "third": "skipped"})
    assert "got unwell after it was kept: check web" in run.failure("canary")["message"]
    assert running(stage.host("second")) == old
    stage.host("canary").exec("systemctl", "start", "web")
    wait_until(lambda: answer(stage.host("canary")) == f"version {version}", "the web service")


def test_paused_rollout_goes_on_elsewhere_and_does_nothing_twice(stage: Stage) -> None:
    old = running(stage.host("third"))
    version = write(stage)
    stage.toml(tables(second={"after": ["canary"]}, third={"after": ["second"]}))
    run = stage.start("deploy", "--json", "--yes", "--all")
    run.wait_for("wave_started")
    assert stage.fleet("rollout", "pause").code == 0
    run.wait_for("rollout_asked", asked="pause")
    run.wait_for("wave_finished", wave=1)
    assert running(stage.host("third")) == old
    run.process.kill()
    run.process.wait()
    (past, *_) = stage.document("runs")["runs"]
    went_on = stage.fleet("rollout", "continue", past["run"], "--json")
    assert (went_on.code, went_on.outcomes) == (0, dict.fromkeys(HOSTS, "kept"))
    assert [event["hosts"] for event in went_on.told("wave_started")] == [["second"], ["third"]]
    assert [answer(stage.host(name)) for name in HOSTS] == [f"version {version}"] * 3
    assert not [event for event in went_on.events if event.get("host") == "canary"]
    refused = stage.fleet("rollout", "abort")
    assert (refused.code, "no rollout is under way" in refused.stderr) == (2, True)


def test_aborted_rollout_begins_nobody_any_more(stage: Stage) -> None:
    old = running(stage.host("third"))
    write(stage)
    stage.toml(tables(), rollout=THREE)
    run = stage.start("deploy", "--json", "--yes", "--all")
    run.wait_for("phase_started", host="canary", phase="push")
    assert stage.fleet("rollout", "abort").code == 0
    run.end()
    assert (run.code, run.outcomes["third"]) == (1, "skipped")
    assert "has aborted the rollout" in run.failure("third")["message"]
    assert running(stage.host("third")) == old


def test_host_outside_its_window_is_deferred_and_gets_nothing(stage: Stage) -> None:
    old = running(stage.host("canary"))
    version = write(stage)
    closed = [day for day in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun") if day not in _today_and_tomorrow()]
    stage.toml(tables(canary={"window": f"{','.join(closed)} 00:00-24:00"}))
    run = stage.deploy("canary", "second")
    assert (run.code, run.outcomes) == (0, {"canary": "deferred", "second": "kept"})
    assert run.failure("canary")["kind"] == "window"
    assert running(stage.host("canary")) == old
    assert not run.told("push_finished", host="canary")
    assert stage.deploy("canary", "--ignore-windows").outcomes == {"canary": "kept"}
    assert answer(stage.host("canary")) == f"version {version}"


TOOLS = ("wakeonlan", "nc", "scontrol", "squeue")


def test_hooks_of_the_documentation_run(stage: Stage) -> None:
    """On this machine, with tools that write down how they were called."""
    text = (Path(__file__).parents[2] / "docs/hooks.md").read_text()
    examples = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
    hooks = [hook for example in examples for host in example["hosts"].values() for hook in host["hooks"]]
    calls = stage.folder / "calls"
    for name in TOOLS:
        tool = stage.folder / "tools" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f'#!/bin/sh\necho {name} "$@" >>{calls}\n')
        tool.chmod(0o755)
    path = {"PATH": f"{stage.folder / 'tools'}:{os.environ['PATH']}"}
    drained, taken_back = (
        "scontrol update nodename=canary state=drain reason=fleet",
        "scontrol update nodename=canary state=resume",
    )
    woken = ["wakeonlan 3c:7c:3f:00:00:01", "nc -z workstation.lan 22"]
    for bad, code in ((False, 0), (True, 1)):
        calls.unlink(missing_ok=True)
        write(stage, bad="canary" if bad else "")
        stage.toml(tables(canary={"hooks": hooks}))
        assert stage.deploy("canary", env=path).code == code
        assert calls.read_text().splitlines() == [*woken, drained, "squeue -h -w canary", taken_back]


def test_hook_on_the_host_runs_there_as_root(stage: Stage) -> None:
    write(stage)
    hook = {"when": "after_commit", "command": "id -un >/run/hook; echo $FLEET_OUTCOME >>/run/hook"}
    stage.toml(tables(canary={"hooks": [hook]}))
    assert stage.deploy("canary").code == 0
    assert stage.host("canary").exec("cat", "/run/hook").stdout == "root\nkept\n"


def test_host_that_was_away_gets_the_newest_system_once_when_it_is_back(stage: Stage, off: str) -> None:
    stage.toml(tables(third={"kind": "laptop", "deliver_in_session": True}))
    for _ in range(3):
        version = write(stage)
        assert stage.deploy("--all").outcomes["third"] == "deferred"
    (there,) = stage.document("status", "third", code=1)["hosts"]
    assert there["behind"]["missed"] == 3
    watching = stage.start("deliver", "--watch", "--json")
    stage.host("third").power_on()
    wait_until(lambda: answer(stage.host("third")) == f"version {version}", "the newest system")
    wait_until(lambda: stage.document("status", "third", code=None)["hosts"][0]["behind"] is None, "nothing waits")
    watching.interrupt()
    watching.end()
    assert watching.code == 0
    ended = watching.told("host_finished")
    assert [(event["host"], event["result"]["outcome"]) for event in ended] == [("third", "kept")]
    nothing = stage.fleet("deliver", "--yes")
    assert (nothing.code, "nothing waits" in nothing.stderr) == (0, True)


def test_what_waits_for_a_host_is_overtaken_by_a_run_from_elsewhere(stage: Stage, off: str) -> None:
    stage.toml(tables(third={"kind": "laptop", "deliver_in_session": True}))
    old = write(stage)
    run = stage.deploy("third")
    assert run.outcomes == {"third": "deferred"}, (run.stdout, run.stderr)
    stage.host("third").power_on()
    version = write(stage)
    elsewhere = {"XDG_STATE_HOME": str(stage.folder / "elsewhere")}
    assert stage.deploy("third", env=elsewhere).outcomes == {"third": "kept"}
    watching = stage.start("deliver", "--watch")
    wait_until(lambda: stage.document("status", "third", code=None)["hosts"][0]["behind"] is None, "nothing waits")
    watching.interrupt()
    watching.end()
    assert (watching.code, "kept" in watching.stderr, old != version) == (0, False, True)
    assert answer(stage.host("third")) == f"version {version}"


def _today_and_tomorrow() -> set[str]:
    return {time.strftime("%a", time.gmtime(time.time() + ahead)) for ahead in (0, 86_400)}


PINNED = """
{
  inputs.pin.url = "git+file://PIN";
  outputs = { pin, ... }: {
    nixosConfigurations = builtins.mapAttrs
      (name: _: {
        config.system.build.toplevel = import ./system.nix {
          inherit name;
          linux = null;
          system = "x86_64-linux";
          config = import (pin + "/${name}.nix");
        };
      })
      (builtins.fromTOML (builtins.readFile ./fleet.toml)).hosts;
  };
}
"""


def commit(pin: Path, *, bad: str = "") -> str:
    """Commit another version of all hosts to the input."""
    version = new_version()
    for name in HOSTS:
        (pin / f"{name}.nix").write_text(web(version, status=503 if name == bad else 200))
    for argv in (["init", "-q"], ["add", "--all"], ["commit", "-q", "-m", version]):
        git(pin, *argv)
    return version


def test_an_updated_pin_goes_to_the_canary_first_and_is_taken_back_if_that_goes_back(
    stage: Stage, tmp_path: Path
) -> None:
    flake, lock = stage.lab.folder.path / "flake.nix", stage.lab.folder.path / "flake.lock"
    labs = flake.read_text()
    try:
        (tmp_path / "flake.nix").write_text("{ outputs = _: { }; }")
        commit(tmp_path)
        flake.write_text(PINNED.replace("PIN", str(tmp_path)))
        stage.toml(tables())
        nix = ["nix", "--extra-experimental-features", "nix-command flakes", "flake", "lock", str(flake.parent)]
        subprocess.run(nix, check=True, capture_output=True, env=stage.environment)
        old, before = {name: running(stage.host(name)) for name in HOSTS}, lock.read_bytes()

        commit(tmp_path, bad="second")
        run = stage.fleet("pins", "update", "pin", "--canary", "second", "--yes", "--json")
        assert (run.code, run.outcomes) == (1, {"canary": "skipped", "second": "rolled_back", "third": "skipped"})
        assert lock.read_bytes() == before
        assert all(stands_on(stage.host(name), old[name]) for name in HOSTS)

        version = commit(tmp_path)
        run = stage.fleet("pins", "update", "pin", "--canary", "second", "--yes", "--json")
        assert (run.code, run.outcomes) == (0, dict.fromkeys(HOSTS, "kept")), run
        assert [event["hosts"] for event in run.told("wave_started")] == [["second"], ["canary", "third"]]
        assert lock.read_bytes() != before
        assert answer(stage.host("third")) == f"version {version}"
    finally:
        flake.write_text(labs)
        lock.unlink(missing_ok=True)
