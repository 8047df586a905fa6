"""`make nixos`: it runs the flake's checks, or says what they need and exits with 2."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.nixos_modules import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NIX = """#!/bin/sh
case "$*" in
    *currentSystem*) echo x86_64-linux ;;
    *show-config*) echo "builders = $BUILDERS" ;;
    *.fleet.name*) echo fleet; [ -z "$UNREACHABLE" ] || { echo "unable to download it" >&2; exit 1; } ;;
    *'flake check'*) echo "checks" ; exit "$CHECKED" ;;
    *) exit 99 ;;
esac
"""
"""What of `nix` it calls: nixpkgs and KVM are nowhere where these tests run."""


def made(tmp_path: Path, *, nix: bool = True, kvm: bool = True, **said: str) -> subprocess.CompletedProcess[str]:
    """How `.ci/nixos` ended on a machine that has these."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("dirname", "printf", "sed", "tail"):
        (tools / name).symlink_to(shutil.which(name) or name)
    if nix:
        (tools / "nix").write_text(NIX)
        (tools / "nix").chmod(0o755)
    device = tmp_path / "kvm"
    if kvm:
        device.touch()
    environment = {"PATH": str(tools), "FLEET_KVM": str(device), "BUILDERS": "", "UNREACHABLE": "", "CHECKED": "0"}
    argv = [str(ROOT / ".ci" / "nixos")]
    return subprocess.run(argv, env={**environment, **said}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        ({"nix": False}, "there is no nix on the PATH\nnixos: try: install Nix"),
        (
            {"kvm": False},
            "cannot use /dev/kvm here, and Nix knows no builder that could\nnixos: try: be in the group kvm",
        ),
        ({"UNREACHABLE": "yes"}, "unable to download it\nnixos: the nixpkgs that flake.lock names cannot be had"),
    ],
)
def test_what_is_missing_is_said_with_a_remedy(tmp_path: Path, lacks: dict[str, object], words: str) -> None:
    done = made(tmp_path, **lacks)  # type: ignore[arg-type]
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


@pytest.mark.parametrize(
    ("lacks", "status"), [({}, 0), ({"kvm": False, "BUILDERS": "ssh-ng://big"}, 0), ({"CHECKED": "1"}, 1)]
)
def test_it_ends_as_the_checks_of_the_flake_do(tmp_path: Path, lacks: dict[str, object], status: int) -> None:
    done = made(tmp_path, **lacks)  # type: ignore[arg-type]
    assert (done.returncode, done.stdout, done.stderr) == (status, "checks\n", "")


def test_it_is_a_target_of_make() -> None:
    if not (make := shutil.which("make")):
        pytest.skip("no make here")
    # `make test` tells the makes below it how to talk.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    told = subprocess.run([make, "-n", "nixos"], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [".ci/nixos"]
