"""The host files that the lab's documentation shows are what the lab's Nix takes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import fleet

TEMPLATE = Path(fleet.__file__).parent / "lab" / "template"
TEXT = (Path(__file__).parent.parent.parent / "docs" / "lab.md").read_text()
FILES = re.findall(r"^```nix\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
WAYS = [
    way
    for row in re.findall(r"^\| you want \|.*\n((?:\|.*\n)*)", TEXT, re.MULTILINE)[0].splitlines()
    for way in re.findall(r"`([^`]+;)`", row)
    if not way.startswith("service.")  # a part of the row above
]

pytestmark = pytest.mark.skipif(shutil.which("nix-instantiate") is None, reason="no Nix here")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """The Nix part of a lab's folder; the builder is not run."""
    folder = tmp_path / "lab"
    shutil.copytree(TEMPLATE, folder)
    (folder / "bin").mkdir()
    (folder / "bin" / "busybox").touch()
    return folder


def evaluated(lab: Path, config: str) -> subprocess.CompletedProcess[str]:
    (lab / "host.nix").write_text(config)
    arguments = f'{{ name = "x"; system = "x86_64-linux"; config = import {lab}/host.nix; }}'
    argv = ["nix-instantiate", "--eval", "--expr", f"(import {lab}/system.nix {arguments}).drvPath"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("config", FILES, ids=range(len(FILES)))
def test_host_files_that_are_shown_evaluate(lab: Path, config: str) -> None:
    done = evaluated(lab, config)
    assert done.returncode == 0, done.stderr


def test_ways_to_break_a_host_are_shown() -> None:
    assert len(WAYS) > 8


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_break_a_host_that_are_shown_evaluate(lab: Path, way: str) -> None:
    done = evaluated(lab, f"{{ {way} }}")
    assert done.returncode == 0, done.stderr


def test_a_word_that_the_lab_does_not_know_would_be_noticed(lab: Path) -> None:
    assert "unknown: servics" in evaluated(lab, "{ servics.web.http.port = 8080; }").stderr
