"""The failure bundle: what could be had is there, and what could not changes nothing."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from fleet.deploy.bundle import write_bundle
from fleet.machine import Output
from fleet.model import CheckAnswer
from tests.fakes import FakeLink, FakeMachine, runs
from tests.unit import builders

if TYPE_CHECKING:
    from pathlib import Path

SAID = ("grün → \udce9",)
ANSWERS = (CheckAnswer(check="web", passed=False, said="503", seconds=0.1),)


async def write(folder: Path, answer: Output | Exception, *, name: str = "web-1") -> Path | None:
    table = ((runs("sh"), answer), (runs("nix"), answer), (runs("nix-store"), answer))
    job = builders.job(builders.host(name))
    links = {job.host.name: FakeLink(job.host, *table)}
    context = builders.context(here=FakeMachine(*table), links=links, folder=folder)
    return await write_bundle(context, job, since=1, said=SAID, answers=ANSWERS)


async def test_bundle_has_what_was_said_for_nobody_else_to_read(tmp_path: Path) -> None:
    folder = await write(tmp_path, Output(status=0, stdout="→\n"))
    assert folder is not None
    assert (folder / "said.txt").read_text(encoding="utf-8") == "grün → ?\n"
    assert (folder / "df.txt").read_text(encoding="utf-8") == "→\n"
    assert folder == tmp_path / "hosts" / "web-1"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["closure", "closure-2", "hosts", "events.jsonl", "fleet-host"])
async def test_bundle_is_beside_what_else_is_in_the_folder_of_the_run(tmp_path: Path, name: str) -> None:
    folder = await write(tmp_path, Output(status=0, stdout="x"), name=name)
    assert folder == tmp_path / "hosts" / name
    assert os.listdir(tmp_path) == ["hosts"]  # noqa: PTH208


async def test_of_a_host_that_tells_without_end_the_end_is_kept(tmp_path: Path) -> None:
    folder = await write(tmp_path, Output(status=0, stdout="x" * 5_000_000 + "end"))
    assert folder is not None
    assert (folder / "journal.txt").read_text(encoding="utf-8").endswith("xend")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5 << 20


async def test_bundle_never_raises(tmp_path: Path) -> None:
    folder = await write(tmp_path, ZeroDivisionError("a bug"))
    assert folder is not None
    assert (folder / "checks.json").exists()
    (tmp_path / "file").touch()
    assert await write(tmp_path / "file", Output(status=0)) is None
