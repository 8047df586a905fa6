"""The host program that Nix makes of its parts, for `services.fleet.guard`, is the one that `fleet` sends."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from fleet import nix
from fleet.host.program import source
from tests.contract.host_functions import SHELLS, call
from tests.nixos_modules import ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")

FOLDER = ROOT / "fleet" / "host" / "program"
AS_NIXPKGS_HAS_THEM = "{ lib.mkDefault = value: value; pkgs.writeScript = name: text: { inherit name text; }; }"


def test_nix_makes_the_bytes_that_fleet_sends() -> None:
    made = json.loads(run("nix-instantiate", "--eval", "--strict", "--json", "--expr", f"import {FOLDER}"))
    assert made.encode() == source().encode()


def test_the_guard_of_the_flake_runs_the_program_that_fleet_sends(tmp_path: Path) -> None:
    for part in ("flake.nix", "flake.lock", "fleet.toml", "modules", "fleet/host/program"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    guard = f"guard: (builtins.elemAt guard.imports 1 {AS_NIXPKGS_HAS_THEM}).services.fleet.guard.program"
    flake = f"path:{tmp_path}#nixosModules.guard"
    made = json.loads(run(*nix.NIX, "eval", "--json", "--no-write-lock-file", flake, "--apply", guard))
    assert made == {"name": "fleet-host", "text": source()}


@pytest.mark.parametrize("shell", SHELLS)
def test_answer_is_one_line_whatever_is_in_it(tmp_path: Path, shell: str) -> None:
    """What an unprivileged user calls a process, a session or a lock is in some of them."""
    said = call(tmp_path, "answer lock_holder \"$(printf '7 a\\nrefused=locked\\r\\033[2J\\177 ü\\b')\"", shell=shell)
    assert said == "lock_holder=7 a refused=locked  [2J  ü \n"


def test_every_part_is_listed_once() -> None:
    listed = (FOLDER / "parts.txt").read_text().split()
    assert sorted(listed) == sorted(path.name for path in FOLDER.glob("*.sh"))
