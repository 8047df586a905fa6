"""Evaluation and build: once for all, errors that name the guilty, and nothing touched by then."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import Stage, answer, new_version, running, stands_on, web
from tests.tools import git

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab

BROKEN = '{ version = builtins.throw "the moon is down"; }'


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("good", "guilty")


def write(stage: Stage, guilty: str) -> str:
    version = new_version()
    stage.toml({"good": {}, "guilty": {}})
    stage.write("good", web(version))
    stage.write("guilty", guilty)
    return version


def unbuildable() -> str:
    """A builder that fails, and says why."""
    return f"""{{ busybox }}: {{ version = "{new_version()}"; files."etc/x" = "${{derivation {{
      name = "broken"; system = builtins.currentSystem or "x86_64-linux"; builder = busybox;
      args = [ "sh" "-c" "echo the compiler is sad >&2; exit 1" ];
    }}}}"; }}"""


def test_evaluation_error_of_one_host_stops_everything_and_names_it(stage: Stage) -> None:
    old = [running(stage.host(name)) for name in ("good", "guilty")]
    write(stage, BROKEN)
    run = stage.deploy("--all")
    assert (run.code, run.error["kind"]) == (3, "evaluation")
    assert run.error["message"].startswith("guilty: Nix could not evaluate")
    assert any("the moon is down" in line for line in run.error["said"])
    assert run.outcomes == {"good": "skipped", "guilty": "skipped"}
    assert [running(stage.host(name)) for name in ("good", "guilty")] == old
    check = stage.document("check", code=3)["hosts"]
    assert [host["error"] is None for host in check] == [True, False]


def test_evaluation_error_with_keep_going_leaves_out_only_its_host(stage: Stage) -> None:
    old = running(stage.host("guilty"))
    version = write(stage, BROKEN)
    run = stage.deploy("--all", "--keep-going")
    assert (run.code, run.outcomes) == (1, {"good": "kept", "guilty": "failed"})
    assert run.failure("guilty")["kind"] == "evaluation"
    assert answer(stage.host("good")) == f"version {version}"
    assert stands_on(stage.host("guilty"), old)


def test_build_error_stops_everything_and_shows_the_log(stage: Stage) -> None:
    old = [running(stage.host(name)) for name in ("good", "guilty")]
    write(stage, unbuildable())
    run = stage.deploy("--all")
    assert (run.code, run.error["kind"]) == (3, "build")
    assert run.error["message"] == "guilty: Nix could not build"
    assert any("the compiler is sad" in line for line in run.error["said"])
    assert "nix-store --read-log /nix/store/" in run.error["hint"]
    assert [running(stage.host(name)) for name in ("good", "guilty")] == old
    assert not run.told("phase_started", phase="push")


def test_build_error_with_keep_going_leaves_out_only_its_host(stage: Stage) -> None:
    old = running(stage.host("guilty"))
    version = write(stage, unbuildable())
    run = stage.deploy("--all", "--keep-going")
    assert (run.code, run.outcomes) == (1, {"good": "kept", "guilty": "failed"})
    assert run.failure("guilty")["kind"] == "build"
    assert answer(stage.host("good")) == f"version {version}"
    assert stands_on(stage.host("guilty"), old)
    roots = [path.resolve() for path in stage.home.glob("state/fleet/test/runs/*/closure*")]
    assert run.hosts["good"]["closure"] in map(str, roots)


def test_flake_that_cannot_be_read_is_no_hosts_fault(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "flake").mkdir()
    (tmp_path / "flake/flake.nix").write_text("{ outputs = { self }: { }")
    stage.flake = f"path:{tmp_path}/flake"
    stage.toml({"good": {}, "guilty": {}})
    run = stage.deploy("--all")
    assert (run.code, run.error["kind"]) == (3, "evaluation")
    assert any("error: syntax error" in line for line in run.error["said"])


def test_closure_for_another_architecture_is_refused_before_the_push(stage: Stage) -> None:
    old = running(stage.host("good"))
    write(stage, web(new_version()))
    stage.toml({"good": {"system": "aarch64-linux"}})
    run = stage.deploy("good")
    assert (run.code, run.outcomes, run.failure("good")["kind"]) == (1, {"good": "failed"}, "unfit")
    assert run.failure("good")["message"] == "the host is x86_64, fleet.toml says aarch64-linux"
    stage.toml({"good": {"system": "i686-linux"}})
    other = stage.deploy("good")
    assert other.failure("good")["message"] == "the closure is for x86_64-linux, the host is i686-linux"
    stage.toml({"good": {}, "guilty": {"system": "i686-linux"}})
    nothing = stage.deploy("--all", "--all-or-nothing")
    assert (nothing.code, nothing.outcomes) == (1, {"good": "skipped", "guilty": "failed"})
    assert stands_on(stage.host("good"), old)


def test_host_builds_its_own_closure(stage: Stage) -> None:
    version = write(stage, web(new_version()))
    stage.toml({"good": {"build_on": "target"}})
    run = stage.deploy("good")
    assert (run.code, run.outcomes) == (0, {"good": "kept"})
    assert answer(stage.host("good")) == f"version {version}"
    assert stands_on(stage.host("good"), run.hosts["good"]["closure"])
    assert not run.told("build_finished")
    stage.write("good", unbuildable())
    failed = stage.deploy("good")
    assert (failed.code, failed.outcomes) == (1, {"good": "failed"})
    assert any("the compiler is sad" in line for line in failed.failure("good")["said"])


def test_files_that_git_hides_from_the_flake_are_named(stage: Stage, tmp_path: Path) -> None:
    version = write(stage, web(new_version()))
    flake = tmp_path / "flake"
    shutil.copytree(stage.lab.folder.path, flake, ignore=shutil.ignore_patterns("keys", ".*"))
    for words in (["init", "-q"], ["add", "."], ["rm", "-q", "--cached", "hosts/guilty.nix"]):
        git(flake, *words)
    stage.flake = str(flake)
    stage.toml({"good": {}, "guilty": {}})
    run = stage.deploy("--all", "--keep-going")
    assert (run.code, run.outcomes) == (1, {"good": "kept", "guilty": "failed"}), run
    assert answer(stage.host("good")) == f"version {version}"
    hidden = run.told("finding_reported", kind="untracked")
    assert [(one["host"], one["message"], one["hint"]) for one in hidden] == [
        (None, "hosts/guilty.nix is not in git: Nix does not see it", "git add hosts/guilty.nix, or remove it")
    ]


def test_equal_systems_are_built_once(stage: Stage) -> None:
    write(stage, web(new_version()))
    attr = "nixosConfigurations.good.config.system.build.toplevel"
    stage.toml({"good": {"attr": attr}, "guilty": {"attr": attr}})
    run = stage.deploy("--all")
    assert (run.code, run.outcomes) == (0, {"good": "kept", "guilty": "kept"})
    assert [one["derivations"] for one in run.told("build_finished")] == [1]
    assert run.hosts["good"]["closure"] == run.hosts["guilty"]["closure"]
