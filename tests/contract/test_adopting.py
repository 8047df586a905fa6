"""Small copies of public fleets become a fleet.toml that `fleet check` passes, with at most three lines edited."""

from __future__ import annotations

import json
import shutil
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from fleet import cli
from fleet.inventory import load
from fleet.library.adopting import adopt
from fleet.machine.local import LocalMachine
from tests.contract.fleets import FLEETS, MOST_EDITS, SmallFleet
from tests.tools import git

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.machine import Command, OnLine, Output

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
ANY = pytest.mark.parametrize("fleet", FLEETS, ids=lambda fleet: fleet.name)
BY_NAME = {fleet.name: fleet for fleet in FLEETS}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("NIX_CONFIG", "build-users-group =\nsubstituters =\nsandbox = false")


class Counting(LocalMachine):
    """This machine, which counts the evaluations."""

    evaluations = 0

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        self.evaluations += "eval" in command.argv
        return await super().run(command, on_line=on_line)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.fleet, arguments, standalone_mode=False)


def hosts(file: Path) -> dict[str, dict[str, Any]]:
    """The tables of the hosts, each with what it has from [defaults]."""
    document = tomllib.loads(file.read_text())
    return {name: {**document["defaults"], **keys} for name, keys in document["hosts"].items()}


async def adopted(fleet: SmallFleet, folder: Path) -> Path:
    """The fleet.toml that is written for a copy of the fleet."""
    made = fleet.copy_to(folder)
    fleet.edit(made, fleet.before)
    return (await adopt(LocalMachine(), made, name=None)).path


@ANY
async def test_a_fleet_is_adopted_in_one_evaluation_where_every_host_evaluates(
    fleet: SmallFleet, tmp_path: Path
) -> None:
    folder = fleet.copy_to(tmp_path)
    fleet.edit(folder, fleet.before)
    here = Counting()
    found = await adopt(here, folder, name=None)
    assert found.hosts == tuple(fleet.hosts)
    assert tuple(found.left_out) == fleet.left_out
    assert found.ignored == fleet.ignored
    assert here.evaluations == fleet.evaluations


@ANY
def test_check_passes_with_at_most_three_lines_edited(fleet: SmallFleet, tmp_path: Path) -> None:
    assert len(fleet.before) + len(fleet.after) <= MOST_EDITS
    folder = fleet.copy_to(tmp_path)
    fleet.edit(folder, fleet.before)
    done = call("init", "--dir", str(folder))
    assert done.exception is None, done.exception
    fleet.edit(folder, fleet.after)
    file = folder / "fleet.toml"
    checked = call("check", "--json", "--file", str(file))
    assert checked.return_value == 0, checked.output
    document = json.loads(checked.stdout)
    assert {host["name"] for host in document["hosts"] if "-nixos-system-" in host["closure"]} == set(fleet.hosts)
    addresses = {host.name: host.address[0] for host in load(file).hosts.values()}
    assert addresses == fleet.hosts


def test_a_raw_hive_says_which_line_it_needs(tmp_path: Path) -> None:
    folder = BY_NAME["raw-hive"].copy_to(tmp_path)
    error = call("init", "--dir", str(folder)).exception
    assert "only colmena can evaluate" in str(error)
    assert "colmenaHive = colmena.lib.makeHive self.outputs.colmena;" in getattr(error, "hint", "")
    assert not (folder / "fleet.toml").exists()


def test_a_hive_as_people_write_it_says_which_file_it_needs(tmp_path: Path) -> None:
    folder = BY_NAME["npins"].copy_to(tmp_path)
    for arguments in (["--expression", "hive.nix"], []):
        error = call("init", "--dir", str(folder), *arguments).exception
        assert "only colmena can evaluate a hive as it is" in str(error)
        (folder / "default.nix").unlink(missing_ok=True)


async def test_the_words_of_colmena_are_keys(tmp_path: Path) -> None:
    found = hosts(await adopted(BY_NAME["hive"], tmp_path))
    assert found["web-2"] == {
        "address": "{name}.example.org", "user": "deploy", "sudo": True, "system": "x86_64-linux",
        "attr": "colmenaHive.nodes.{name}", "tags": ["web"], "build_on": "target",
    }  # fmt: skip
    assert found["web-1"]["tags"] == ["web", "prod"]


async def test_what_colmena_does_besides_is_told_in_the_file(tmp_path: Path) -> None:
    text = (await adopted(BY_NAME["hive"], tmp_path)).read_text()
    assert "# colmena uploads the keys restic.pass; fleet does not: docs/adopting.md" in text
    assert '# checks = [{ unit = "postgresql.service" }]' in text


async def test_the_words_of_deploy_rs_are_keys(tmp_path: Path) -> None:
    file = await adopted(BY_NAME["deploy-rs"], tmp_path)
    found, text = hosts(file), file.read_text()
    common = {
        "address": "{name}.example.org", "user": "deploy", "sudo": True, "system": "x86_64-linux",
        "confirm_timeout": "45s",
    }  # fmt: skip
    assert found == {"nas": {**common, "build_on": "target"}, "router": common}
    assert text.count("magicRollback = false") == 1


async def test_hosts_of_a_mixed_flake_come_from_whoever_deploys_them(tmp_path: Path) -> None:
    file = await adopted(BY_NAME["mixed"], tmp_path)
    found = hosts(file)
    assert found["gate"]["port"] == 2222
    assert (found["oven"]["identity_file"], found["oven"]["user"]) == ("~/.ssh/id_ed25519", "root")
    assert "address" not in found["lamp"]
    assert "# colmena: its deployment options are in a module" in file.read_text()


async def test_a_reason_is_beside_each_host_that_is_left_out(tmp_path: Path) -> None:
    text = (await adopted(BY_NAME["plain"], tmp_path)).read_text()
    assert "# [hosts.half]  # does not evaluate: the disk of half is not chosen yet" in text
    assert "# [hosts.wrong]  # does not evaluate: attribute 'missing' missing" in text


def test_files_that_git_does_not_know_are_named_where_hosts_do_not_evaluate(tmp_path: Path) -> None:
    folder = BY_NAME["plain"].copy_to(tmp_path)
    for words in ("init -q", "add flake.nix"):
        git(folder, *words.split())
    done = call("init", "--dir", str(folder))
    assert "no host of it can be written" in str(done.exception)
    assert getattr(done.exception, "hint", "") == "Nix sees only what git knows: git add nixos.nix"
    git(folder, "add", "nixos.nix")
    (folder / "half.nix").write_text("{ }")
    assert "hint:  Nix sees only what git knows: git add half.nix" in call("init", "--dir", str(folder)).stderr


def test_check_misses_a_host_that_was_added_to_the_hive_later(tmp_path: Path) -> None:
    folder = BY_NAME["hive"].copy_to(tmp_path)
    assert call("init", "--dir", str(folder)).exception is None
    file = folder / "fleet.toml"
    text = file.read_text()
    file.write_text(text[: text.index("[hosts.web-2]")])
    checked = call("check", "--json", "--file", str(file))
    messages = [found["message"] for found in json.loads(checked.stdout)["findings"] if found["severity"] == "error"]
    assert messages == ["colmenaHive.nodes.web-2 is a configuration that no host of fleet.toml has"]
    assert checked.return_value == 1
