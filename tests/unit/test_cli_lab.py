"""Which folder `fleet lab` is about, and what it says where that is no lab."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from fleet.cli import run
from fleet.lab.folder import Folder

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Container:
    """A container that only its removal matters of."""

    name: str
    engine: Engine

    def remove(self, **_: bool) -> None:
        self.engine.removed.append(self.name)


@dataclass
class Engine:
    """A Docker engine with one host in one folder."""

    folder: Path
    removed: list[str] = field(default_factory=list)

    def containers(self, folder: Path) -> dict[str, Container]:
        here = folder.resolve() == self.folder.resolve() and not self.removed
        return {"web": Container("web", self)} if here else {}


@pytest.fixture
def engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The engine, beside the folder of its lab: ~/lab."""
    lab = Folder(home / "lab")
    with lab.alone():
        lab.write_flake()
    engine = Engine(lab.path)
    monkeypatch.setattr("fleet.lab.engine.connect", lambda: engine)
    return engine


@pytest.mark.parametrize(("where", "flags"), [("lab", []), (".", []), ("/", ["--dir", "lab"])])
def test_lab_is_this_folder_or_the_one_called_lab(
    home: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, where: str, flags: list[str]
) -> None:
    monkeypatch.chdir(home / where)
    given = [str(home / flag) if flag == "lab" else flag for flag in flags]
    assert run(["lab", "down", *given]) == 0
    assert engine.removed == ["web"]
    assert not engine.folder.exists()


@pytest.mark.parametrize(
    "words", [("status", "--json"), ("down",), *((verb, "web") for verb in ("cut", "fill", "restore", "slow"))]
)
def test_folder_that_never_was_a_lab_is_told(
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert run(["lab", *words]) == 2
    told = capsys.readouterr()
    assert f"there is no lab in {elsewhere / 'lab'}" in told.err
    assert (told.out, engine.removed) == ("", [])


def test_hosts_whose_folder_was_deleted_can_be_removed(
    home: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    with Folder(engine.folder).alone():
        Folder(engine.folder).remove()
    assert run(["lab", "down"]) == 0
    assert engine.removed == ["web"]
