"""Commands that wait for Nix say so within two seconds, to people who cannot see anything move."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
ROOT = Path(__file__).parent.parent.parent
SLOW = """#!/bin/sh
while ! [ -e {go} ]; do sleep 0.1; done
exec {real} "$@"
"""
FLAKE = """{ outputs = _: { nixosConfigurations.a.config.system.build.toplevel = derivation {
  name = "nixos-system-a"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo > $out" ];
}; }; }"""


@pytest.mark.parametrize(
    ("command", "words"),
    [("init", "Nix evaluates what is configured"), ("build", "evaluate 1 host"), ("check", "read ")],
)
def test_slow_nix_is_waited_for_with_a_word(tmp_path: Path, home: Path, command: str, words: str) -> None:
    folder, programs, go = tmp_path / "fleet", tmp_path / "bin", tmp_path / "go"
    folder.mkdir()
    programs.mkdir()
    (folder / "flake.nix").write_text(FLAKE)
    if command != "init":
        (folder / "fleet.toml").write_text("[hosts.a]\n")
    slow = programs / "nix"
    slow.write_text(SLOW.format(go=go, real=shutil.which("nix")))
    slow.chmod(0o755)
    config = "build-users-group =\nsubstituters =\nsandbox = false"
    path = f"{programs}:{os.environ['PATH']}"
    process = subprocess.Popen(
        [sys.executable, "-m", "fleet", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "NIX_CONFIG": config, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(f"fleet: {words}")
        go.write_text("")
        process.stderr.read()
    assert process.returncode == 0
