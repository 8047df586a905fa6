"""The folder that peers deploy from in the bench, evaluated by Nix as they evaluate it. No peer is run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from tests.bench import flake
from tests.bench.closures import ask
from tests.bench.hosts import Hosts
from tests.nixos_modules import needs_lib

if TYPE_CHECKING:
    from fleet.lab import Lab

SYSTEM = """derivation {
  name = "system"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo > $out" ];
}"""
NIX = ("nix", "--extra-experimental-features", "nix-command flakes")


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """Two hosts that nobody logs in to, and a deploy-rs that nobody runs."""
    monkeypatch.setenv("PEERS_FROM", str(tmp_path / "peers"))
    monkeypatch.setenv("NIX_CONFIG", "build-users-group =\nsubstituters =\nsandbox = false")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/busybox").write_text("not run")
    (tmp_path / "fleet.toml").write_text('[fleet]\nname = "bench"\n[defaults]\n[hosts.a]\n[hosts.b]\n')
    (tmp_path / "ssh_config").write_text("Host a b\n")
    program = tmp_path / "peers/deploy-rs/target/release/activate"
    program.parent.mkdir(parents=True)
    program.write_bytes(Path(os.path.realpath("/bin/true")).read_bytes())
    lab = SimpleNamespace(folder=SimpleNamespace(path=tmp_path))
    return Hosts(cast("Lab", lab), ("a", "b"), tmp_path)


@needs_lib
def test_peers_evaluate_to_the_closure_of_the_bench(hosts: Hosts) -> None:
    (closure,) = ask("nix-build", "--no-out-link", "-E", SYSTEM)
    folder = flake.written(hosts, closure)
    toplevel = "config.system.build.toplevel"

    (system,) = ask(*NIX, "eval", "--raw", f"path:{folder}#nixosConfigurations.b.{toplevel}.outPath")
    deploy = json.loads(" ".join(ask(*NIX, "eval", "--json", f"path:{folder}#deploy")))
    wrapped = deploy["nodes"]["a"]["profiles"]["system"]["path"]
    evaluated = "let n = import %s/morph.nix; in (import (n.network.pkgs.path + %s) { modules = [ n.b ]; }).%s.outPath"
    morph = ask("nix-instantiate", "--eval", "-E", evaluated % (folder, '"/nixos/lib/eval-config.nix"', toplevel))

    assert [system, *morph] == [closure, f'"{closure}"']
    assert wrapped.endswith("-activatable-nixos-system")
    assert set(deploy["nodes"]) == {"a", "b"}
    assert flake.written(hosts, closure) == folder
