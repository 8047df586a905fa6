"""Always on, without being declared: no unit that newly fails or crash-loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import Stage, answer, new_version, running, stands_on, web

if TYPE_CHECKING:
    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("units")


@pytest.fixture
def version(stage: Stage) -> str:
    """The version that the host runs, well."""
    stage.toml({"units": {}})
    said = answer(stage.host("units"))
    if said.startswith("version"):
        return said.split()[1]
    version = new_version()
    stage.write("units", web(version))
    assert stage.deploy("units").code == 0
    return version


def test_unit_that_fails_is_enough_to_go_back_and_its_words_are_shown(stage: Stage, version: str) -> None:
    host, old = stage.host("units"), running(stage.host("units"))
    sick = "services.sick.exec = \"/bin/sh -c 'echo cannot open the database >&2; exit 7'\";"
    stage.write("units", web(new_version(), more=sick))
    run = stage.deploy("units")
    assert (run.code, run.outcomes) == (1, {"units": "rolled_back"})
    failure = run.failure("units")
    assert failure["message"] == "sick.service has failed"
    assert "cannot open the database" in failure["said"]
    assert not [line for line in failure["said"] if line.startswith(("Start", "Stop"))]
    assert stands_on(host, old)
    assert answer(host) == f"version {version}"


def test_unit_that_crashes_after_it_started_well_is_found(stage: Stage, version: str) -> None:
    old = running(stage.host("units"))
    late = "services.late.exec = \"/bin/sh -c 'sleep 0.7; echo late crash >&2; exit 1'\";"
    stage.toml({"units": {"settle": "3s"}})
    stage.write("units", web(new_version(), more=late))
    run = stage.deploy("units")
    assert run.outcomes == {"units": "rolled_back"}
    assert "late crash" in run.failure("units")["said"]
    assert stands_on(stage.host("units"), old)


def test_crash_loop_is_found_though_the_unit_never_rests_in_failed(stage: Stage, version: str) -> None:
    old = running(stage.host("units"))
    loop = """services.loop = {
      exec = "/bin/sh -c 'echo here I go; sleep 0.2; exit 1'";
      service = { Restart = "always"; RestartSec = "100ms"; };
      unit = { StartLimitIntervalSec = 0; };
    };"""
    stage.toml({"units": {"settle": "2s"}})
    stage.write("units", web(new_version(), more=loop))
    run = stage.deploy("units")
    assert (run.code, run.outcomes) == (1, {"units": "rolled_back"})
    assert run.failure("units")["message"].startswith("loop.service ")
    assert "here I go" in run.failure("units")["said"]
    assert stands_on(stage.host("units"), old)


def test_unit_that_was_failing_before_is_told_and_not_counted(stage: Stage, version: str) -> None:
    host = stage.host("units")
    host.exec("sh", "-c", "systemd-run -q --unit=rotten false; systemctl is-failed --wait rotten || true", check=False)
    sick = "services.sick.exec = \"/bin/sh -c 'test ! -e /var/lib/sick'\";"
    host.exec("rm", "-f", "/var/lib/sick")
    stage.write("units", web(new_version(), more=sick))
    assert stage.deploy("units").code == 0
    host.exec("touch", "/var/lib/sick")
    host.exec("systemctl", "restart", "sick.service")
    host.exec("sh", "-c", "until systemctl is-failed -q sick.service; do :; done")
    stage.write("units", web(new_version(), more=sick))
    run = stage.deploy("units")
    notes = [finding["message"] for finding in run.told("finding_reported", kind="failing_units")]
    host.exec("rm", "-f", "/var/lib/sick")
    assert "sick.service" in notes[0]
    assert (run.code, run.outcomes) == (0, {"units": "kept"})


def test_ignored_unit_does_not_count(stage: Stage, version: str) -> None:
    stage.toml({"units": {"ignore_units": ["backup-*"]}})
    stage.write("units", web(new_version(), more="services.backup-home.exec = \"/bin/sh -c 'exit 1'\";"))
    run = stage.deploy("units")
    assert (run.code, run.outcomes) == (0, {"units": "kept"})
