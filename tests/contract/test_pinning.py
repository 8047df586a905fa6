"""`fleet pins` with real Nix and git: what hosts end with, and one input updated or put back."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from fleet import cli
from fleet.errors import ConfigError, EvaluationError
from fleet.library import pinning
from fleet.machine.local import LocalMachine
from tests.tools import git

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here"),
    pytest.mark.skipif(shutil.which("git") is None, reason="no git here"),
]
FLAKE = """
{
  inputs.nixpkgs.url = "git+file://NIXPKGS";
  inputs.old.url = "git+file://OLD";
  outputs = { nixpkgs, old, ... }:
    let
      system = name: derivation { inherit name; system = "x86_64-linux"; builder = "/bin/sh"; };
      host = name: source: more: {
        pkgs = { path = source.outPath; } // (more.pkgs or { });
        config = { system.build.toplevel = system name; } // (more.config or { });
      };
    in
    {
      nixosConfigurations = {
        web = host "web" nixpkgs { };
        db = host "db" old { config.system.nixos.version = throw "nobody knows"; };
        gpu = host "gpu" nixpkgs {
          pkgs.cudaPackages.cudaMajorMinorVersion = "12.8";
          config = {
            system.nixos.version = "26.05.20260101";
            system.build.toplevel = system "gpu";
            boot.kernelPackages.kernel.version = "6.12.60";
            hardware.nvidia = { enabled = true; package.version = "570.1"; };
          };
        };
        broken = BROKEN;
      };
    };
}
"""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("NIX_CONFIG", "build-users-group =\nsubstituters =\nsandbox = false")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "ann")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "ann@example.org")


def commit(folder: Path) -> str:
    """Commit everything in the folder, and return the commit."""
    for argv in (["init", "-q"], ["add", "--all"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        git(folder, *argv)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A flake with two inputs, all of it committed."""
    for name in ("nixpkgs", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "flake.nix").write_text(f'{{ outputs = _: {{ name = "{name}"; }}; }}')
        commit(tmp_path / name)
    made = tmp_path / "fleet"
    made.mkdir()
    write(made)
    commit(made)
    nix = ["nix", "--extra-experimental-features", "nix-command flakes", "flake", "lock", str(made)]
    subprocess.run(nix, check=True, capture_output=True)
    commit(made)
    return made


def write(folder: Path, *, broken: str = "") -> None:
    text = FLAKE.replace("NIXPKGS", str(folder.parent / "nixpkgs")).replace("OLD", str(folder.parent / "old"))
    (folder / "flake.nix").write_text(text.replace("broken = BROKEN;", f"broken = {broken};" if broken else ""))
    more = "[hosts.broken]\n" if broken else ""
    (folder / "fleet.toml").write_text(f'[fleet]\nname = "home"\n[hosts.web]\n[hosts.db]\n[hosts.gpu]\n{more}')


def pins(folder: Path, *arguments: str) -> Result:
    argv = ["pins", *arguments, "--file", str(folder / "fleet.toml")]
    return CliRunner().invoke(cli.fleet, argv, standalone_mode=False)


def document(folder: Path, code: int) -> dict[str, Any]:
    done = pins(folder, "--json")
    assert (done.exception, done.return_value) == (None, code), done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_a_host_ends_with_is_what_its_configuration_says(folder: Path) -> None:
    hosts = {host["name"]: host for host in document(folder, 0)["hosts"]}
    assert {name: host["input"] for name, host in hosts.items()} == {"web": "nixpkgs", "db": "old", "gpu": "nixpkgs"}
    gpu = [hosts["gpu"][key] for key in ("nixos", "kernel", "driver", "cuda")]
    assert gpu == ["26.05.20260101", "6.12.60", "570.1", "12.8"]
    assert [hosts["db"][key] for key in ("nixos", "kernel", "driver", "cuda")] == [None] * 4


def test_a_host_that_does_not_evaluate_does_not_hide_the_others(folder: Path) -> None:
    write(folder, broken='throw "no"')
    hosts = {host["name"]: host for host in document(folder, 3)["hosts"]}
    assert hosts["broken"]["error"] == f"broken: Nix could not evaluate {folder}"
    assert hosts["web"]["input"] == "nixpkgs"


def test_people_see_a_table(folder: Path) -> None:
    done = pins(folder)
    assert done.return_value == 0
    assert f"nixpkgs  git+file://{folder.parent}/nixpkgs  " in done.stdout
    assert [line.split() for line in done.stdout.splitlines() if line.startswith("gpu")] == [
        ["gpu", "nixpkgs", "26.05.20260101", "6.12.60", "570.1", "12.8"]
    ]


async def test_only_the_named_input_is_updated_and_can_be_put_back(folder: Path) -> None:
    before = (folder / "flake.lock").read_bytes()
    newest = {name: commit(folder.parent / name) for name in ("nixpkgs", "old")}
    made = await pinning.update(LocalMachine(), str(folder), "nixpkgs")
    assert made.new.revision == newest["nixpkgs"] != made.old.revision
    nodes = json.loads((folder / "flake.lock").read_bytes())["nodes"]
    assert nodes["old"]["locked"]["rev"] != newest["old"]
    assert made.put_back()
    assert (folder / "flake.lock").read_bytes() == before


async def test_what_others_make_of_the_lock_file_meanwhile_stays(folder: Path) -> None:
    commit(folder.parent / "nixpkgs")
    made = await pinning.update(LocalMachine(), str(folder), "nixpkgs")
    (folder / "flake.lock").write_text("theirs")
    assert not made.put_back()
    assert (folder / "flake.lock").read_text() == "theirs"


async def test_an_input_that_cannot_be_had_leaves_the_lock_file_as_it_was(folder: Path) -> None:
    before = (folder / "flake.lock").read_bytes()
    shutil.rmtree(folder.parent / "nixpkgs")
    with pytest.raises(EvaluationError, match="Nix could not update nixpkgs"):
        await pinning.update(LocalMachine(), str(folder), "nixpkgs")
    assert (folder / "flake.lock").read_bytes() == before


async def test_changes_of_the_lock_file_that_are_not_committed_are_never_lost(folder: Path) -> None:
    lock = folder / "flake.lock"
    lock.write_text(json.dumps(json.loads(lock.read_text())))
    mine = lock.read_bytes()
    with pytest.raises(ConfigError, match=r"flake\.lock has changes that are not committed"):
        await pinning.update(LocalMachine(), str(folder), "nixpkgs")
    assert lock.read_bytes() == mine


async def test_an_input_that_the_flake_does_not_have_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="has no input nixpkgz") as caught:
        await pinning.update(LocalMachine(), str(folder), "nixpkgz")
    assert caught.value.hint == "it has nixpkgs, old"
    with pytest.raises(ConfigError, match="no flake in a folder of this machine"):
        await pinning.update(LocalMachine(), "github:ann/home", "nixpkgs")


def test_a_canary_has_to_be_one_host(folder: Path) -> None:
    done = pins(folder, "update", "nixpkgs", "--canary", "*", "--yes")
    assert isinstance(done.exception, ConfigError)
    assert done.exception.message == "*: names 3 hosts, and this is for one"


def test_an_input_that_is_the_newest_changes_nothing(folder: Path) -> None:
    done = pins(folder, "update", "nixpkgs", "--canary", "web", "--yes")
    assert done.return_value == 0, done.exception
    assert "there is nothing newer" in done.stderr
