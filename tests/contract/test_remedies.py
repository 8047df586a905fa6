"""What a real Nix and a real git refuse for a reason outside the flake, and what people are told to do about it."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from fleet.cli import run
from fleet.machine.local import LocalMachine
from fleet.source import tree
from tests.tools import git

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here"),
    pytest.mark.skipif(shutil.which("git") is None, reason="no git here"),
]
FLAKE = """{
  NIXCONFIG
  outputs = _: {
    nixosConfigurations."my host".config.system.build.toplevel = derivation {
      name = "nixos-system-a"; system = "SYSTEM"; builder = "/bin/sh"; args = [ "-c" "echo > $out" ];
    };
    nixosConfigurations.a.config.system.build.toplevel = derivation {
      name = "nixos-system-a"; system = "SYSTEM"; builder = "/bin/sh"; args = [ "-c" "echo > $out" ];
    };
  };
}
"""


@pytest.fixture
def folder(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A flake in git, which tracks nothing yet."""
    monkeypatch.setenv("NIX_CONFIG", "build-users-group =\nsubstituters =\nsandbox = false")
    made = tmp_path / "fleet"
    made.mkdir()
    write(made)
    git(made, "init", "-q")
    monkeypatch.chdir(made)
    return made


def write(folder: Path, *, system: str = "x86_64-linux", config: str = "") -> None:
    (folder / "flake.nix").write_text(FLAKE.replace("SYSTEM", system).replace("NIXCONFIG", config))
    (folder / "fleet.toml").write_text("[hosts.a]\n")


def track(folder: Path) -> None:
    git(folder, "add", ".")


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs a command; returns its exit code and all that it writes."""

    def call(*arguments: str) -> tuple[int, str]:
        code = run(arguments)
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


@pytest.mark.parametrize("command", ["build", "init", "diff"])
def test_flake_that_git_does_not_know_is_to_be_added(
    folder: Path, say: Callable[..., tuple[int, str]], command: str
) -> None:
    if command == "init":
        (folder / "fleet.toml").unlink()
    code, said = say(command)
    assert code == 3
    assert "hint:  Nix sees only what git knows: git add " in said
    assert "flake.nix" in said.partition("git add ")[2]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("command", ["build", "init"])
def test_repository_of_somebody_else_is_to_be_trusted(
    folder: Path, say: Callable[..., tuple[int, str]], command: str
) -> None:
    track(folder)
    if command == "init":
        (folder / "fleet.toml").unlink()
    for place in (folder, *folder.rglob("*")):
        os.chown(place, 12345, 12345)
    code, said = say(command)
    assert (code, f"git config --global --add safe.directory {folder}" in said) == (3, True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_repository_of_somebody_else_has_the_same_files(folder: Path) -> None:
    track(folder)
    (folder / "new.nix").write_text("{ }")
    ours = asyncio.run(tree.look(LocalMachine(), str(folder)))
    for place in (folder, *folder.rglob("*")):
        os.chown(place, 12345, 12345)
    assert ours is not None
    assert [str(path) for path in ours.untracked] == ["new.nix"]
    assert asyncio.run(tree.look(LocalMachine(), str(folder))) == ours


def test_system_that_cannot_be_built_here_has_three_ways_out(folder: Path, say: Callable[..., tuple[int, str]]) -> None:
    write(folder, system="riscv64-linux")
    track(folder)
    code, said = say("build")
    assert code == 3
    for words in ('boot.binfmt.emulatedSystems = [ "riscv64-linux" ]', "remote builder", 'build_on = "target"'):
        assert words in said


def test_settings_of_the_flake_that_are_not_used_are_named(folder: Path, say: Callable[..., tuple[int, str]]) -> None:
    write(folder, config='nixConfig.extra-substituters = [ "https://cache.example" ];')
    track(folder)
    code, said = say("build")
    assert (code, "nixConfig says: extra-substituters" in said) == (0, True)
    assert "accept-flake-config" in said


def test_names_in_hints_are_as_toml_wants_them(folder: Path, say: Callable[..., tuple[int, str]]) -> None:
    track(folder)
    _, said = say("check")
    assert 'add [hosts."my host"] to fleet.toml' in said


def test_name_of_a_host_stands_once_before_what_is_wrong_with_it(
    folder: Path, say: Callable[..., tuple[int, str]]
) -> None:
    (folder / "fleet.toml").write_text("[hosts.broken]\n")
    track(folder)
    _, said = say("check")
    assert "broken: Nix could not evaluate" in said
    assert "broken: broken:" not in said


def test_no_nix_at_all_is_told_for_several_hosts(
    folder: Path, say: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (folder / "fleet.toml").write_text("[hosts.a]\n[hosts.b]\n")
    empty = tmp_path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    code, said = say("build")
    assert code == 3
    assert "error: cannot run nix: No such file or directory" in said
    assert "hint:  is nix on your PATH?" in said


@pytest.mark.parametrize("flags", [(), ("-v",)])
def test_files_that_nix_does_not_see_are_told_of_a_build_that_works(
    folder: Path, say: Callable[..., tuple[int, str]], flags: tuple[str, ...]
) -> None:
    track(folder)
    (folder / "new.nix").write_text("{ }")
    code, said = say("build", *flags)
    assert (code, said.count("note: new.nix is not in git")) == (0, 1)
    assert "git add new.nix" in said
