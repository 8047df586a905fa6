"""Systems that no flake has: `expression` names a file, and Nix says what each host gets."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from fleet import Fleet, cli
from fleet.deploy.evaluating import evaluated_groups
from fleet.inventory import load
from fleet.machine.local import LocalMachine
from fleet.plans import Source
from fleet.source.evaluations import Evaluations
from fleet.source.revision import source_of
from tests.fakes import Events
from tests.tools import git

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here"),
    pytest.mark.skipif(shutil.which("git") is None, reason="no git here"),
]
MADE = """
  made = name: derivation {
    inherit name;
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-c" "echo ${name} >$out" ];
  };
  host = name: { config.system.build.toplevel = made "nixos-system-${name}"; };
"""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("NIX_CONFIG", "build-users-group =\nsubstituters =\nsandbox = false")


def write(folder: Path, toml: str, nix: str) -> Path:
    """Write a fleet.toml and the expression beside it, with the words of `MADE`."""
    (folder / "default.nix").write_text(nix.replace("MADE", f"let {MADE} in"))
    file = folder / "fleet.toml"
    file.write_text(toml)
    return file


def check(file: Path, code: int = 0) -> dict[str, Any]:
    """What `fleet check --json` says, once it has ended with the code."""
    done = CliRunner().invoke(cli.fleet, ["check", "--json", "--file", str(file)], standalone_mode=False)
    assert done.exception is None, done.exception
    assert done.return_value == code, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def names(document: dict[str, Any]) -> dict[str, str | None]:
    """The name of what each host gets, without its hash."""
    return {host["name"]: host["closure"] and host["closure"][44:] for host in document["hosts"]}


EXPRESSION = '[fleet]\nname = "home"\nexpression = "default.nix"\n'


@pytest.mark.parametrize(
    "nix",
    [
        'MADE { web = host "web"; "db.lan" = made "nixos-system-db.lan"; other = throw "no host"; }',
        '{ pkgs ? builtins.trace "called" null }: MADE { web = host "web"; "db.lan" = host "db.lan"; }',
    ],
    ids=["set", "function"],
)
def test_an_attribute_set_of_systems_is_enough(tmp_path: Path, nix: str) -> None:
    found = names(check(write(tmp_path, f'{EXPRESSION}[hosts.web]\n[hosts."db.lan"]\n', nix)))
    assert found == {"web": "nixos-system-web", "db.lan": "nixos-system-db.lan"}


def test_a_file_may_look_around_as_flakes_may_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEASE", "blue")
    nix = 'MADE { web = host (builtins.getEnv "RELEASE"); }'
    assert names(check(write(tmp_path, f"{EXPRESSION}[hosts.web]\n", nix))) == {"web": "nixos-system-blue"}


def test_the_systems_may_lie_deeper_and_some_hosts_in_a_flake(tmp_path: Path) -> None:
    (tmp_path / "gpus").mkdir()
    outputs = f'{{ outputs = _: let {MADE} in {{ nixosConfigurations.gpu = host "gpu"; }}; }}'
    (tmp_path / "gpus" / "flake.nix").write_text(outputs)
    toml = f'{EXPRESSION}[hosts.web]\nattr = "nodes.{{name}}"\n[hosts.gpu]\nflake = "gpus"\n'
    found = check(write(tmp_path, toml, 'MADE { nodes.web = host "web"; }'))
    assert names(found) == {"web": "nixos-system-web", "gpu": "nixos-system-gpu"}


def test_one_system_that_throws_is_told_and_the_others_are_there(tmp_path: Path) -> None:
    nix = 'MADE { web = host "web"; bad = throw "the disk is not chosen"; }'
    document = check(write(tmp_path, f"{EXPRESSION}[hosts.web]\n[hosts.bad]\n", nix), 3)
    assert names(document) == {"web": "nixos-system-web", "bad": None}


async def test_a_file_is_evaluated_each_time(tmp_path: Path) -> None:
    fleet = load(write(tmp_path, f"{EXPRESSION}[hosts.web]\n", 'MADE { web = host "web"; }'))
    groups = fleet.by_reference(fleet.hosts.values())
    cache = Evaluations(tmp_path / "cache")
    for _ in range(2):
        known = await evaluated_groups(LocalMachine(), groups, cache=cache, emit=Events())
        assert (len(known.found), known.recalled) == (1, frozenset())


def test_the_commit_of_a_file_is_clean_only_if_git_knows_all_that_it_may_read(tmp_path: Path) -> None:
    write(tmp_path, EXPRESSION, "{ }")
    for words in (["init", "-q"], ["add", "default.nix"], ["commit", "-qm", "x"]):
        git(tmp_path, *words)
    reference = f"file:{tmp_path}/default.nix"
    commit = git(tmp_path, "rev-parse", "HEAD")
    dirty = Source(reference=reference, revision=commit, is_clean=False)
    assert asyncio.run(source_of(LocalMachine(), reference)) == dirty  # fleet.toml is not tracked
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "y")
    assert asyncio.run(source_of(LocalMachine(), reference)).is_clean


def test_a_wrapper_of_deploy_rs_is_explained(tmp_path: Path) -> None:
    toml = f'{EXPRESSION}[hosts.web]\nattr = "deploy.nodes.web.profiles.system.path"\n'
    nix = 'MADE { deploy.nodes.web.profiles.system.path = made "activatable-nixos-system-web"; }'
    document = check(write(tmp_path, toml, nix), 3)
    assert re.search(r"deploy-rs's wrapper around a system \(activate-rs\)", document["hosts"][0]["error"])


def test_a_configuration_is_as_good_as_the_system_in_it(tmp_path: Path) -> None:
    (tmp_path / "flake.nix").write_text(f'{{ outputs = _: let {MADE} in {{ colmenaHive.nodes.a = host "a"; }}; }}')
    file = tmp_path / "fleet.toml"
    file.write_text('[defaults]\nattr = "colmenaHive.nodes.{name}"\n[hosts.a]\nchecks = [{ unit = "a.service" }]\n')
    assert names(check(file)) == {"a": "nixos-system-a"}


# --- options ----------------------------------------------------------------------------------------

OWN_SYSTEM = """
let system = builtins.currentSystem; in
{ web = derivation { inherit system; name = "nixos-system-${system}"; builder = "/bin/sh"; args = [ "-c" ">$out" ]; }; }
"""


def test_options_of_fleet_toml_reach_nix(tmp_path: Path) -> None:
    toml = f'{EXPRESSION}nix_options = {{ system = "riscv64-linux" }}\n[hosts.web]\n'
    file = write(tmp_path, toml, OWN_SYSTEM)
    assert names(check(file)) == {"web": "nixos-system-riscv64-linux"}
    built = asyncio.run(Fleet.open(file).build(eval_cache=False))
    assert [closure[44:] for closure in built.values()] == ["nixos-system-riscv64-linux"]


def test_an_option_of_nix_ends_a_build_that_takes_too_long(tmp_path: Path) -> None:
    toml = '[fleet]\nexpression = "default.nix"\nnix_options = { timeout = 1 }\n[hosts.a]\n'
    slow = (
        'derivation { name = "slow"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "/bin/sleep 99" ]; }'
    )
    file = write(tmp_path, toml, f"{{ a = {slow}; }}")
    done = CliRunner().invoke(cli.fleet, ["build", "--file", str(file)], standalone_mode=False)
    assert "a: Nix could not build" in str(done.exception)
    assert "timed out after 1 seconds" in " ".join(getattr(done.exception, "said", ()))


def test_check_refuses_an_option_that_nix_does_not_know(tmp_path: Path) -> None:
    file = write(tmp_path, f"{EXPRESSION}nix_options = {{ coers = 4 }}\n[hosts.web]\n", OWN_SYSTEM)
    done = CliRunner().invoke(cli.fleet, ["check", "--file", str(file)], standalone_mode=False)
    assert str(done.exception) == f"{file}: [fleet.nix_options] coers: Nix has no such option; did you mean cores?"
