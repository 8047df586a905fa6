"""Going back: to what ran before, to a generation, to a path, and forward again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import WEB, Stage, answer, new_version, real, running, stands_on, web

if TYPE_CHECKING:
    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab

FIRST = "/nix/var/nix/profiles/system-1-link"
PREVIOUS = "/nix/var/nix/gcroots/fleet/previous"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("back")


@pytest.fixture
def versions(stage: Stage) -> tuple[str, str]:
    """The host ran the first of these healthy closures, and runs the second, whatever was there before."""
    host = stage.host("back")
    stage.toml({"back": {"checks": [WEB]}})
    first = real(host, FIRST)
    while host.exec("readlink", "-m", PREVIOUS).stdout.strip() in (first, PREVIOUS) or not answer(host).startswith(
        "version"
    ):
        stage.write("back", web(new_version()))
        stage.deploy("back")
    return real(host, PREVIOUS), running(host)


def test_rollback_goes_to_what_ran_before_and_a_second_one_returns(stage: Stage, versions: tuple[str, str]) -> None:
    host, (old, new) = stage.host("back"), versions
    run = stage.fleet("rollback", "back", "--json")
    assert (run.code, run.outcomes) == (0, {"back": "kept"})
    assert (run.hosts["back"]["previous"], run.hosts["back"]["closure"]) == (new, old)
    assert stands_on(host, old)
    assert not run.told("evaluation_finished")
    assert stage.fleet("rollback", "back", "--json").code == 0
    assert stands_on(host, new)


def test_rollback_to_a_generation_and_to_a_path(stage: Stage, versions: tuple[str, str]) -> None:
    host, (old, _) = stage.host("back"), versions
    first = host.exec("readlink", "-f", FIRST).stdout.strip()
    there = {one["closure"]: one for one in stage.document("generations", "back")["hosts"][0]["generations"]}
    assert there[old]["previous"]
    run = stage.fleet("rollback", "back", "--json", "--to", str(there[old]["number"]))
    assert run.code == 0
    assert stands_on(host, old)
    assert stage.fleet("rollback", "back", "--json", "--to", first).code == 0
    assert stands_on(host, first)
    same = stage.fleet("rollback", "back", "--json", "--to", first)
    assert (same.code, same.outcomes) == (0, {"back": "unchanged"})


def test_rollback_to_nowhere_touches_nothing(stage: Stage, versions: tuple[str, str]) -> None:
    absent = "/nix/store/" + "a" * 32 + "-nixos-system-back-1"
    for wanted, code, words in (
        ("999", 1, "there is no generation 999"),
        (absent, 1, f"{absent} is not in this host's store"),
        ("yesterday", 2, "--to yesterday: is neither the number of a generation nor a store path"),
        ("/nix/store", 2, "--to /nix/store: is neither the number of a generation nor a store path"),
    ):
        run = stage.fleet("rollback", "back", "--json", "--to", wanted)
        assert run.code == code
        assert (run.failure("back") if code == 1 else run.error)["message"] == words
        assert not run.told("phase_started", phase="push")
    assert stands_on(stage.host("back"), versions[1])


def test_rollback_that_fails_declared_checks_is_kept_and_told_but_not_when_strict(stage: Stage) -> None:
    host = stage.host("back")
    stage.toml({"back": {}})
    stage.write("back", web(new_version(), status=503))
    ill = stage.deploy("back").hosts["back"]["closure"]
    stage.toml({"back": {"checks": [WEB]}})
    version = new_version()
    stage.write("back", web(version))
    well = stage.deploy("back").hosts["back"]["closure"]

    strict = stage.fleet("rollback", "back", "--json", "--strict")
    assert (strict.code, strict.outcomes) == (1, {"back": "rolled_back"})
    assert stands_on(host, well)
    assert answer(host) == f"version {version}"

    run = stage.fleet("rollback", "back", "--json")
    assert (run.code, run.outcomes) == (0, {"back": "kept"})
    assert run.hosts["back"]["notes"] == [
        "check web fails now: 503 Lab, wanted 200", "a second fleet rollback goes forward again",
    ]  # fmt: skip
    assert stands_on(host, ill)
    stages = [event["stage"] for event in run.told("check_reported")]
    assert stages == ["before", "after"]


def test_rollback_to_a_system_whose_units_fail_is_rolled_back(stage: Stage, versions: tuple[str, str]) -> None:
    """On the way back, declared checks do not decide; units do."""
    host, (_, new) = stage.host("back"), versions
    stage.write("back", web(new_version(), more="services.sick.exec = \"/bin/sh -c '! test -e /var/lib/sick'\";"))
    sick = stage.deploy("back").hosts["back"]["closure"]
    stage.write("back", web(new_version()))
    after = stage.deploy("back").hosts["back"]["closure"]
    host.exec("touch", "/var/lib/sick")
    run = stage.fleet("rollback", "back", "--json")
    assert (run.code, run.outcomes) == (1, {"back": "rolled_back"})
    assert run.failure("back")["message"] == "sick.service has failed"
    assert (stands_on(host, after), after != new, sick != after) == (True, True, True)
    assert running(host) == after


def test_host_that_never_had_another_system_says_what_to_do(stage: Stage, make_lab: MakeLab) -> None:
    fresh = make_lab("fresh")
    stage.lab = fresh
    stage.toml({"fresh": {}})
    run = stage.fleet("rollback", "fresh", "--json")
    assert (run.code, run.outcomes) == (1, {"fresh": "failed"})
    assert run.failure("fresh")["message"] == "nothing is recorded to go back to"
    assert run.failure("fresh")["hint"] == "fleet generations fresh lists what is there; go to one with --to"
