"""The library as docs/library.md shows it: the page's own script, on real hosts."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import BUSY, GATE, PATIENCE, WEB, answer, is_open, new_version, wait_until, web

if TYPE_CHECKING:
    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab
    from tests.containers.driver import Stage

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
HOSTS = ("laptop", "gpu-01")


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(*HOSTS)


def script(stage: Stage, *, most: str = "100_000_000") -> Path:
    """The first example of the page, in the folder of the stage."""
    block = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    text = block[1].replace("MOST = 100_000_000", f"MOST = {most}")
    assert f"MOST = {most}" in text
    file = stage.folder / "example.py"
    file.write_text(text, encoding="utf-8")
    return file


def start(stage: Stage, file: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, file], cwd=stage.folder, env=stage.environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def prepare(stage: Stage, version: str) -> None:
    stage.toml({name: {"checks": [WEB, GATE]} for name in HOSTS})
    for name in HOSTS:
        stage.write(name, web(version))


def test_example_of_the_page_deploys_to_two_hosts(stage: Stage) -> None:
    version = new_version()
    prepare(stage, version)
    process = start(stage, script(stage))
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert "HostProven(" in said
    assert {f"{name} kept" for name in HOSTS} <= set(said.splitlines())
    assert [answer(stage.host(name)) for name in HOSTS] == [f"version {version}"] * 2


def test_example_of_the_page_refuses_a_plan_that_pushes_too_much(stage: Stage) -> None:
    before = [answer(stage.host(name)) for name in HOSTS]
    prepare(stage, new_version())
    process = start(stage, script(stage, most="10"))
    said, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "bytes to push: not now" in said) == (1, True), said
    assert [answer(stage.host(name)) for name in HOSTS] == before


@pytest.mark.parametrize("handled", [True, False])
def test_example_of_the_page_survives_ctrl_c(stage: Stage, *, handled: bool) -> None:
    """With its own handler, and as Python does it: hosts that began are proven, and their end is told."""
    version = new_version()
    prepare(stage, version)
    file = script(stage)
    if not handled:
        file.write_text(re.sub(r".*add_signal_handler.*\n", "", file.read_text()))
    for name in HOSTS:
        stage.host(name).exec("touch", BUSY)
    process = start(stage, file)
    wait_until(lambda: all(is_open(stage.host(name)) for name in HOSTS), "both hosts have begun")
    process.send_signal(signal.SIGINT)
    for name in HOSTS:
        stage.host(name).exec("rm", BUSY)
    said, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode == 130) is handled, said
    assert [answer(stage.host(name)) for name in HOSTS] == [f"version {version}"] * 2
    assert not any(is_open(stage.host(name)) for name in HOSTS)
    runs = stage.document("runs")["runs"]
    assert [(host["outcome"], host["settled"]) for host in runs[0]["hosts"]] == [("kept", True)] * 2
