"""What a host would get comes up on a disposable host first, which does not reach the real one."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import WEB, Stage, new_version, running, web

if TYPE_CHECKING:
    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab

ALONE = {"name": "alone", "command": "! ip route get 192.0.2.1"}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("one")


def rehearsals() -> int:
    """How many disposable hosts there are for rehearsals."""
    argv = ["docker", "ps", "--all", "--format", '{{.Label "fleet.lab.folder"}}']
    folders = subprocess.run(argv, capture_output=True, encoding="utf-8", check=True).stdout.split()
    return sum("/fleet-rehearsal-" in folder for folder in folders)


def test_a_rehearsal_proves_the_system_elsewhere_and_leaves_nothing(stage: Stage) -> None:
    before = running(stage.host("one"))
    stage.toml({"one": {"checks": [WEB, ALONE, {"name": "db", "tcp": "db-1.example.org:5432"}]}})
    stage.write("one", web(new_version()))
    done = stage.fleet("rehearse", "one")
    assert done.code == 0, done.stderr
    assert done.stderr.splitlines()[-2:] == [
        "not rehearsed: db: it asks db-1.example.org, which is another",
        "one: came up in the lab, 2 checks passed",
    ]
    assert running(stage.host("one")) == before
    assert rehearsals() == 0
    assert [row["verb"] for row in stage.document("runs")["runs"] if row["verb"] == "deploy"] == []


def test_a_system_that_is_not_healthy_fails_in_the_rehearsal(stage: Stage) -> None:
    before = running(stage.host("one"))
    stage.toml({"one": {"checks": [WEB]}})
    stage.write("one", web(new_version(), status=503))
    done = stage.fleet("rehearse", "one")
    assert done.code == 1
    assert "503" in done.stderr
    assert done.stderr.splitlines()[-1] == "one: did not come up in the lab; the host itself is as it was"
    assert running(stage.host("one")) == before
    assert rehearsals() == 0


@pytest.mark.long
def test_a_rehearsal_that_is_kept_can_be_looked_at(stage: Stage) -> None:
    stage.toml({"one": {"checks": [WEB]}})
    stage.write("one", web(new_version()))
    done = stage.fleet("rehearse", "one", "--keep")
    assert done.code == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("the lab stays: "))
    assert rehearsals() == 1
    assert stage.fleet(*line.removeprefix("the lab stays: fleet ").removesuffix(" removes it").split()).code == 0
    assert rehearsals() == 0
