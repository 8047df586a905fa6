"""Flakes in which something throws that is no host: the hosts are found all the same."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from fleet.errors import EvaluationError
from fleet.machine.local import LocalMachine
from fleet.source.discover import Discovered, discover
from tests.tools import git

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
SYSTEM = 'derivation { name = "nixos-system-x"; system = "x86_64-linux"; builder = "/bin/sh"; }'
HOST = f"{{ config.system.build.toplevel = {SYSTEM}; MORE }}"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("NIX_CONFIG", "build-users-group =\nsubstituters =")


async def found(folder: Path, outputs: str, *, more: str = "") -> Discovered:
    host = HOST.replace("MORE", more)
    (folder / "flake.nix").write_text(f"{{ outputs = _: {{ nixosConfigurations.web = {host}; {outputs} }}; }}")
    return await discover(LocalMachine(), str(folder))


@pytest.mark.parametrize(
    "outputs",
    [
        'deploy = throw "x";',
        'deploy.nodes = throw "x";',
        'deploy.nodes.web = throw "x";',
        'deploy = { sshOpts = throw "x"; nodes.web.hostname = throw "x"; };',
        'colmena = throw "x";',
        'colmena.web = throw "x";',
        "colmena = _: { web.deployment = _: { }; };",
        'colmena.web.deployment.tags = [ 1 (throw "x") ];',
        'colmenaHive = throw "x";',
        'colmenaHive.nodes = throw "x";',
        'homeConfigurations = throw "x";',
        "deploy = 1; colmena = 2; colmenaHive = 3;",
    ],
)
async def test_an_output_that_throws_hides_no_configuration(tmp_path: Path, outputs: str) -> None:
    discovered = await found(tmp_path, outputs)
    assert (list(discovered.configurations), discovered.broken) == (["web"], {})


@pytest.mark.parametrize(
    ("more", "key", "value"),
    [
        ("config.services.nginx.enable = true; config.services.gitea = throw \"removed\";", "units", ["nginx.service"]),
        ('config.users.users.ann = throw "x";', "administrators", None),
        ('config.networking = { domain = "lan"; fqdn = "web.lan"; };', "fqdn", "web.lan"),
        ("config.networking.domain = null;", "fqdn", None),
        ('pkgs = throw "x";', "system", None),
        ('config.nixpkgs.hostPlatform.system = "aarch64-linux";', "system", "aarch64-linux"),
        ('config.system.build.netbootRamdisk = throw "x";', "isImage", True),
    ],
)  # fmt: skip
async def test_a_detail_that_throws_is_only_unknown(tmp_path: Path, more: str, key: str, value: object) -> None:
    discovered = await found(tmp_path, "", more=more)
    assert (discovered.configurations["web"][key], discovered.broken) == (value, {})


async def test_a_flake_whose_hosts_have_no_names_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "flake.nix").write_text('{ outputs = _: { nixosConfigurations = throw "nothing goes"; }; }')
    with pytest.raises(EvaluationError, match="cannot tell which hosts") as caught:
        await discover(LocalMachine(), str(tmp_path))
    assert "error: nothing goes" in caught.value.said


async def test_what_git_does_not_know_is_not_read_and_what_is_in_no_commit_is(tmp_path: Path) -> None:
    below = tmp_path / "sub"
    below.mkdir()
    (below / "flake.nix").write_text("{ outputs = _: import ./hosts.nix; }")
    (below / "hosts.nix").write_text(f"{{ nixosConfigurations.web = {HOST.replace('MORE', '')}; }}")
    (tmp_path / "id_ed25519").write_text("a secret beside the flake")
    for words in (["init", "-q"], ["add", "sub/flake.nix"]):
        git(tmp_path, *words)
    with pytest.raises(EvaluationError) as caught:
        await discover(LocalMachine(), str(below))
    assert "git add" in caught.value.hint
    git(tmp_path, "add", "sub/hosts.nix")
    assert list((await discover(LocalMachine(), str(below))).configurations) == ["web"]


async def test_in_a_file_what_is_no_system_is_no_host(tmp_path: Path) -> None:
    file = tmp_path / "default.nix"
    file.write_text(
        f'{{ lib = {{ }}; shell = _: 1; n = 3; web = {SYSTEM}; db = {HOST.replace("MORE", "")}; bad = throw "x"; }}'
    )
    discovered = await discover(LocalMachine(), f"file:{file}")
    assert sorted(discovered.configurations) == ["bad", "db", "web"]
    assert discovered.broken == {"bad": "x"}
