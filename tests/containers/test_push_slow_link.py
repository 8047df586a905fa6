"""Pushes with `link = "slow"`, to real hosts."""

from __future__ import annotations

import os
import random
import re
from typing import TYPE_CHECKING

import pytest

from fleet.lab import faults
from tests.containers.closures import build, has, nar_bytes, requisites
from tests.pushes import relay

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab
    from tests.containers.driver import Stage

SIZES = (3_000_000, 400_000, 60_000, 5_000)


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("one", "two")


def system(stage: Stage, seed: int, version: str) -> str:
    """A closure whose packages hardly change with the version."""
    code = random.Random(seed)
    folder: Path = stage.lab.folder.path
    parts = []
    for number, size in enumerate(SIZES):
        tree = folder / f"trees/{seed}/tool{number}-x{seed}-{version}"
        tree.mkdir(parents=True)
        (tree / "code").write_bytes(f"version {version}\n".encode() + code.randbytes(size))
        parts.append(f'(builtins.path {{ path = {tree}; name = "{tree.name}"; }})')
    return build(stage, f"thin-{version}", f"[ {' '.join(parts)} ]")


@pytest.fixture
def versions(stage: Stage) -> tuple[str, str]:
    """Two versions of a system that no host has."""
    seed = int.from_bytes(os.urandom(6))
    return system(stage, seed, "1.0"), system(stage, seed, "1.1")


def nothing_left(stage: Stage, name: str) -> bool:
    host = stage.host(name)
    return host.exec("find", "/run", "-maxdepth", "1", "-name", "fleet-delta*").stdout == ""


@pytest.mark.parametrize("way", ["root", "sudo"])
def test_an_update_takes_a_fraction_of_its_bytes(stage: Stage, versions: tuple[str, str], way: str) -> None:
    old, new = versions
    table = {"link": "slow"} if way == "root" else {"link": "slow", "user": "deploy", "sudo": True}
    stage.toml({"one": table})
    first = stage.fleet("push", "one", "--closure", old, "--json")
    (whole,) = first.told("push_finished")
    fresh = nar_bytes(*(path for path in requisites(new) if path not in requisites(old)))
    second = stage.fleet("push", "one", "--closure", new, "--json")
    (update,) = second.told("push_finished")
    assert (first.outcomes, second.outcomes) == ({"one": "staged"},) * 2, second
    assert has(stage.host("one"), old)
    assert has(stage.host("one"), new)
    assert whole["wire_bytes"] > sum(SIZES)  # bytes without any order
    assert update["nar_bytes"] >= fresh > sum(SIZES)
    assert update["wire_bytes"] < 0.01 * fresh
    assert second.told("finding_reported", kind="slow_link") == []
    assert nothing_left(stage, "one")


def test_two_hosts_of_one_run_share_what_was_compressed(stage: Stage, versions: tuple[str, str]) -> None:
    old, new = versions
    stage.toml({"one": {"link": "slow"}, "two": {"link": "slow"}})
    assert stage.fleet("push", "--all", "--closure", old, "--json").code == 0
    run = stage.fleet("push", "--all", "--closure", new, "--json")
    assert run.outcomes == {"one": "staged", "two": "staged"}, run
    kept = sum(1 for _ in (stage.home / ".cache/fleet/deltas").iterdir())
    again = stage.fleet("push", "--all", "--closure", new, "--json")
    assert again.code == 0
    assert kept == sum(1 for _ in (stage.home / ".cache/fleet/deltas").iterdir())
    for name in ("one", "two"):
        assert has(stage.host(name), new)


def test_a_link_that_is_cut_brings_the_rest_when_it_is_back(stage: Stage, versions: tuple[str, str]) -> None:
    closure, _ = versions
    with relay(stage.lab, "two", "--cut-after", "200000", "3400000", "--cuts", "4") as port:
        stage.toml({"two": {"port": port, "link": "slow"}})
        runs = [stage.fleet("push", "two", "--closure", closure, "--json")]
        while runs[-1].code and len(runs) < 6:
            runs.append(stage.fleet("push", "two", "--closure", closure, "--json"))
    assert runs[-1].outcomes == {"two": "staged"}, runs[-1]
    assert has(stage.host("two"), closure)
    assert nothing_left(stage, "two")


def test_a_host_without_zstd_gets_it_whole_and_says_so_once(stage: Stage, versions: tuple[str, str]) -> None:
    closure, _ = versions
    stage.toml({"one": {"link": "slow"}})
    host = stage.host("one")
    host.exec("mv", "/usr/bin/zstd", "/usr/bin/zstd.away")
    try:
        plan = stage.document("plan", "one", "--closure", closure)
        run = stage.fleet("push", "one", "--closure", closure, "--json")
    finally:
        host.exec("mv", "/usr/bin/zstd.away", "/usr/bin/zstd")
    assert run.outcomes == {"one": "staged"}, run
    assert has(host, closure)
    for findings in (plan["findings"], run.told("finding_reported")):
        (finding,) = (one for one in findings if one["kind"] == "slow_link")
        assert "the host has no zstd" in finding["message"]
    (planned,) = plan["hosts"]
    assert planned["wire_bytes"] > planned["missing_bytes"]


def test_a_disk_that_fills_up_meanwhile_is_said_and_nothing_is_tried_again(
    stage: Stage, versions: tuple[str, str]
) -> None:
    closure, _ = versions
    host = stage.host("two")
    faults.give_disk(host, "/nix")
    try:
        with relay(stage.lab, "two", "--rate", "6mbit") as port:
            stage.toml({"two": {"port": port, "link": "slow"}})
            run = stage.start("push", "two", "--closure", closure, "--json")
            run.wait_for("push_progressed")
            faults.fill(host, "/nix")
            run.end()
    finally:
        faults.restore(host)
    error = run.failure("two")
    assert run.code == 1
    assert error["kind"] in ("push", "command"), error  # whichever of its commands meets the full disk first
    assert re.search("no space left on (device|the disk)", error["message"] + " ".join(error["said"]), re.I), run
    assert run.told("finding_reported", kind="slow_link") == []
    assert nothing_left(stage, "two")
    stage.toml({"two": {"link": "slow"}})
    again = stage.fleet("push", "two", "--closure", closure, "--json")
    assert again.outcomes == {"two": "staged"}, again
    assert has(host, closure)
