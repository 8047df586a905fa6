"""`fleet check` on real flakes, good and bad in one way each: the finding, and the exit code."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fleet import cli
from fleet.errors import ConfigError
from fleet.inventory.mesh import address_of, prefix_of
from fleet.lab.folder import Folder
from fleet.machine.local import LocalMachine
from fleet.model import Severity
from fleet.source import lock, outputs, tree
from tests.tools import git

pytestmark = [
    pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here"),
    pytest.mark.skipif(shutil.which("git") is None, reason="no git here"),
]
FLAKE = """
{
  inputs = { INPUTS };
  outputs = { self, ... }:
    let
      system = "x86_64-linux";
      made = name: derivation { inherit system name; builder = "/bin/sh"; args = [ "-c" "echo ${name} >$out" ]; };
      host = name: { config.system.build.toplevel = made name; };
    in
    {
      nixosConfigurations = { web-1 = host "web-1"; web-2 = host "web-2"; MORE };
      checks.${system}.own = OWN;
      checks.aarch64-linux = OTHER;
      OUTPUTS
    };
}
"""
CHECKED = '[hosts.{}]\nchecks = [{{ name = "web", unit = "web.service" }}]\n'
TOML = CHECKED.format("web-1") + CHECKED.format("web-2")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("NIX_CONFIG", "build-users-group =\nsubstituters =\nsandbox = false")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good flake, all of it in git."""
    made = tmp_path / "fleet"
    made.mkdir()
    (made / "fleet.toml").write_text(TOML)
    write(made)
    git(made, "init", "-q")
    track(made)
    return made


OTHER = '{ other = throw "nobody may look at this"; }'


def write(
    folder: Path,
    *,
    inputs: str = "",
    more: str = "",
    own: str = 'made "own"',
    other: str = OTHER,
    outputs: str = "",
) -> None:
    parts = {"INPUTS": inputs, "MORE": more, "OWN": own, "OTHER": other, "OUTPUTS": outputs}
    text = FLAKE
    for word, part in parts.items():
        text = text.replace(word, part)
    (folder / "flake.nix").write_text(text)


def track(folder: Path) -> None:
    git(folder, "add", "--all")


def check(folder: Path, *arguments: str) -> Result:
    argv = ["check", "--file", str(folder / "fleet.toml"), *arguments]
    return CliRunner().invoke(cli.fleet, argv, standalone_mode=False)


def document(folder: Path, code: int, *arguments: str) -> dict[str, Any]:
    done = check(folder, "--json", *arguments)
    assert done.exception is None, done.output
    assert done.return_value == code, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def errors(found: dict[str, Any]) -> list[str]:
    return [finding["kind"] for finding in found["findings"] if finding["severity"] == "error"]


def test_a_good_flake_is_found_good_and_what_was_not_looked_at_is_said(folder: Path) -> None:
    found = document(folder, 0)
    assert [(host["name"], host["error"]) for host in found["hosts"]] == [("web-1", None), ("web-2", None)]
    assert all(host["closure"].startswith("/nix/store/") for host in found["hosts"])
    assert found["findings"] == []
    assert {(one["system"], one["name"]): one["status"] for one in found["checks"]} == {
        ("x86_64-linux", "own"): "evaluated",
        ("aarch64-linux", "other"): "skipped",
    }


def test_people_see_the_same(folder: Path) -> None:
    write(folder, more='iso = host "iso";')
    done = check(folder)
    assert done.return_value == 1
    assert "checks.aarch64-linux.other: skipped (this machine is x86_64-linux)" in done.stdout
    assert "checks.x86_64-linux.own: evaluated (not built: fleet check --build does that)" in done.stdout
    assert "error: nixosConfigurations.iso is a configuration that no host of fleet.toml has" in done.stdout
    assert "  hint:  add [hosts.iso] to fleet.toml" in done.stdout


def test_a_mesh_that_does_not_fit_the_hosts_is_an_error(folder: Path) -> None:
    key, address = f"{'A' * 43}=", address_of(prefix := prefix_of("0123456789abcdef"), "old")
    entry = f'[hosts.old]\npublic_key = "{key}"\naddress = "{address}"\n'
    (folder / "mesh.toml").write_text(f'prefix = "{prefix}"\n{entry}')
    track(folder)
    assert errors(document(folder, 1)) == ["mesh_stale"]
    (folder / "mesh.toml").write_text(entry)
    with pytest.raises(ConfigError, match=r"mesh\.toml: prefix: is missing"):
        raise check(folder).exception or AssertionError("it was taken")


def test_the_own_checks_are_built_when_asked(folder: Path) -> None:
    assert document(folder, 0, "--build")["checks"][-1]["status"] == "passed"
    write(folder, own='made "own" // { drvPath = throw "the moon is down"; }')
    (failed,) = [one for one in document(folder, 3)["checks"] if one["name"] == "own"]
    assert (failed["status"], "the moon is down" in failed["said"]) == ("failed", True)
    write(folder, own='derivation { inherit system; name = "own"; builder = "/bin/sh"; args = [ "-c" "exit 1" ]; }')
    assert [one["status"] for one in document(folder, 0)["checks"] if one["name"] == "own"] == ["evaluated"]
    assert [one["status"] for one in document(folder, 3, "--build")["checks"] if one["name"] == "own"] == ["failed"]


def statuses(found: dict[str, Any]) -> dict[str, str]:
    return {".".join((one["output"], one["system"], one["name"])): one["status"] for one in found["checks"]}


def test_checks_of_another_system_that_have_no_names_are_skipped_as_a_whole(folder: Path) -> None:
    write(folder, other='throw "no system"')
    assert statuses(document(folder, 0)) == {
        "checks.x86_64-linux.own": "evaluated",
        "checks.aarch64-linux.": "skipped",
    }


@pytest.mark.parametrize(
    ("outputs", "place"),
    [("checks.riscv64-linux = { };", None), ('checks = throw "no checks";', "checks.."), ("", None)],
)
def test_checks_that_do_not_evaluate_at_all_are_not_the_same_as_none(
    folder: Path, outputs: str, place: str | None
) -> None:
    text = (folder / "flake.nix").read_text()
    kept = [line for line in text.splitlines() if "checks." not in line]
    (folder / "flake.nix").write_text("\n".join([*kept[:-2], f"      {outputs}", *kept[-2:]]))
    found = document(folder, 3 if place else 0)
    assert statuses(found) == ({place: "failed"} if place else {})


FOREIGN = """
      darwinConfigurations.mac.system = (made "mac") // { system = "aarch64-darwin"; };
      homeConfigurations."me@laptop".activationPackage = HOME;
"""


def test_configurations_that_nix_flake_check_does_not_know_are_evaluated(folder: Path) -> None:
    write(folder, outputs=FOREIGN.replace("HOME", 'made "home"'))
    assert statuses(document(folder, 0)) == {
        "checks.aarch64-linux.other": "skipped",
        "checks.x86_64-linux.own": "evaluated",
        "darwinConfigurations..mac": "evaluated",
        "homeConfigurations..me@laptop": "evaluated",
    }
    write(folder, outputs=FOREIGN.replace("HOME", 'throw "no home"'))
    (failed,) = [one for one in document(folder, 3)["checks"] if one["status"] == "failed"]
    assert (failed["output"], failed["name"], "no home" in failed["said"]) == ("homeConfigurations", "me@laptop", True)
    assert "homeConfigurations.me@laptop: failed (error: no home)" in check(folder).stdout


def test_what_a_configuration_warns_of_is_told_once(folder: Path) -> None:
    warning = 'builtins.trace "warning: the key of the example\\nis still there"'
    write(folder, more=f'web-3 = {warning} (host "web-3");', own=f'{warning} (made "own")')
    (folder / "fleet.toml").write_text(TOML + CHECKED.format("web-3"))
    found = document(folder, 0)["findings"]
    assert [(one["kind"], one["message"]) for one in found] == [("warning", "the key of the example is still there")]


def test_the_commands_of_readme_and_docs_parse(folder: Path) -> None:
    (folder / "docs").mkdir()
    (folder / "README.md").write_text(
        "Deploy with `fleet deploy @prod`.\n\n```console\n$ fleet deploy --all --yes\n```\n"
    )
    (folder / "docs" / "more.md").write_text("See `fleet g`, or\n```sh\ncd x && fleet deploy --gaol test web-1\n```\n")
    (folder / "notes.md").write_text("`fleet deplyo`")
    track(folder)
    found = document(folder, 1)
    assert [(one["kind"], one["message"].split(": ")[0]) for one in found["findings"]] == [
        ("command", "docs/more.md:1"),
        ("command", "docs/more.md:3"),
    ]
    assert "No such command 'g'" in found["findings"][0]["message"]
    assert "`fleet deploy --gaol test web-1` would be refused: No such option" in found["findings"][1]["message"]


def test_a_configuration_without_a_host_is_found_unless_only_some_hosts_were_asked_about(folder: Path) -> None:
    write(folder, more='iso = host "iso";')
    assert errors(document(folder, 1)) == ["no_host"]
    assert errors(document(folder, 0, "web-1")) == []


def test_a_host_without_a_configuration_is_found(folder: Path) -> None:
    (folder / "fleet.toml").write_text(TOML + CHECKED.format("web-3"))
    found = document(folder, 3)
    assert errors(found) == ["no_configuration"]
    assert [host["error"] is None for host in found["hosts"]] == [True, True, False]


@pytest.mark.parametrize("bad", ['"a string"', "{ }", 'throw "assertion failed: no disk"'])
def test_a_host_that_is_no_system_is_an_evaluation_error(folder: Path, bad: str) -> None:
    write(folder, more=f"web-3.config.system.build.toplevel = {bad};")
    (folder / "fleet.toml").write_text(TOML + CHECKED.format("web-3"))
    assert [host["error"] is None for host in document(folder, 3)["hosts"]] == [True, True, False]


def test_findings_and_checks_name_their_flake_where_there_are_several(folder: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    write(other, more='iso = host "iso";')
    elsewhere = f'flake = "{other}"\n'
    (folder / "fleet.toml").write_text(
        CHECKED.format("web-1") + CHECKED.format("web-2").replace("]\n", f"]\n{elsewhere}", 1)
    )
    found = document(folder, 1)
    messages = [one["message"] for one in found["findings"] if one["kind"] == "no_host"]
    assert sorted(messages) == [
        f"{folder}: nixosConfigurations.web-2 is a configuration that no host of fleet.toml has",
        f"{other}: nixosConfigurations.iso is a configuration that no host of fleet.toml has",
        f"{other}: nixosConfigurations.web-1 is a configuration that no host of fleet.toml has",
    ]
    assert {check["output"] for check in found["checks"]} == {f"{folder}#checks", f"{other}#checks"}


def test_mk_fleet_makes_no_configuration_for_a_host_of_another_flake(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text('[hosts.web]\n[hosts.db]\nflake = "."\n[hosts.gpu]\nflake = "github:a/b"\n')
    made = Path(__file__).parent.parent.parent / "modules" / "lib" / "mk-fleet.nix"
    arguments = f"{{ nixpkgs = {{ }}; inventory = {tmp_path}/fleet.toml; hosts = {tmp_path}; }}"
    names = f"builtins.attrNames (import {made} {arguments})"
    flags = ("--extra-experimental-features", "nix-command")
    done = subprocess.run(
        ["nix", *flags, "eval", "--impure", "--json", "--expr", names], check=True, capture_output=True
    )
    assert json.loads(done.stdout) == ["db", "web"]


def dependency(folder: Path) -> Path:
    made = folder.parent / "dep"
    made.mkdir()
    (made / "flake.nix").write_text("{ outputs = { self }: { }; }")
    return made


def make_lock(folder: Path) -> None:
    nix = ["nix", "--extra-experimental-features", "nix-command flakes", "flake", "lock", str(folder)]
    subprocess.run(nix, check=True, capture_output=True)
    track(folder)


def test_an_input_that_is_only_on_this_machine_is_found(folder: Path) -> None:
    write(folder, inputs=f'dep.url = "path:{dependency(folder)}";')
    make_lock(folder)
    assert errors(document(folder, 1)) == ["path_input"]


def test_a_lock_file_that_does_not_fit_is_found(folder: Path) -> None:
    write(folder, inputs=f'dep.url = "path:{dependency(folder)}";')
    assert errors(document(folder, 3)) == ["lock_stale"]


def test_a_lock_file_that_git_does_not_know_is_found(folder: Path) -> None:
    write(folder, inputs=f'dep.url = "path:{dependency(folder)}";')
    make_lock(folder)
    git(folder, "rm", "-q", "--cached", "flake.lock")
    assert errors(document(folder, 3)) == ["lock_stale", "untracked"]


def test_a_nix_file_that_git_does_not_know_is_found(folder: Path) -> None:
    (folder / "hosts").mkdir()
    (folder / "hosts" / "new.nix").write_text("{ }")
    found = document(folder, 1)
    assert errors(found) == ["untracked"]
    assert "hosts/new.nix is not in git" in found["findings"][0]["message"]
    (folder / ".gitignore").write_text("hosts/\n")
    assert errors(document(folder, 0)) == []


def test_a_folder_without_git_is_copied_as_a_whole(folder: Path) -> None:
    token = "ghp_" + "a" * 36
    (folder / "notes").write_text(f"{token}\n")
    assert errors(document(folder, 0)) == []  # git does not know it, so Nix does not copy it
    shutil.rmtree(folder / ".git")
    found = document(folder, 1)
    assert errors(found) == ["secret"]
    assert token not in json.dumps(found)


def test_a_tracked_secret_is_found(folder: Path) -> None:
    (folder / "notes").write_text("ghp_" + "a" * 36)
    track(folder)
    assert errors(document(folder, 1)) == ["secret"]


def test_a_wrong_file_is_exit_2_before_anything(folder: Path) -> None:
    (folder / "fleet.toml").write_text("[hosts.a]\nadress = 'x'\n")
    done = check(folder, "--json")
    assert getattr(done.exception, "exit_code", None) == 2


def test_a_lab_is_found_good_though_its_keys_are_in_its_folder(tmp_path: Path) -> None:
    lab = Folder(tmp_path / "lab")
    lab.path.mkdir()
    lab.write_flake()
    lab.write_busybox(b"busybox")
    lab.write_hosts({"web-1": 22022}, "x86_64-linux")
    lab.key("id_ed25519")
    assert document(lab.path, 0)["findings"] == []


async def test_this_repository_has_no_secret_and_all_of_its_inputs_are_locked() -> None:
    root, here = Path(__file__).parent.parent.parent, LocalMachine()
    if not (root / ".git").exists():
        pytest.skip("no git work tree here")
    described = await outputs.metadata(here, str(root))
    assert described.status == 0, described.stderr
    files = await tree.look(here, str(root))
    assert files is not None
    found = [*lock.findings(json.loads(described.stdout)["locks"], now=time.time()), *tree.findings(files)]
    assert [one for one in found if one.severity is Severity.ERROR and one.kind != "untracked"] == []
