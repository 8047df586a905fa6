"""Plays the cells of the fault table on three lab hosts at once; each test is one cell and waits for its own."""

from __future__ import annotations

import queue
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from fleet.lab import Lab
from tests.containers import nixos_switch
from tests.containers.conftest import lab_image
from tests.containers.driver import Stage
from tests.faults.play import play
from tests.faults.scene import Scene, build, system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.table import Cell

__all__ = ["lab_image"]
HOSTS = ("alpha", "beta", "gamma")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "faults":
            item.add_marker(pytest.mark.container)


class Players:
    """Hosts that play cells, each one at a time."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._hosts: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(len(HOSTS))
        self._games: dict[Cell, Future[None]] = {}
        for name in HOSTS:
            base = build(lab.folder.path, folder, name, system(f"{name}.0"))
            home = folder / name
            home.mkdir()
            Scene(Stage(lab, home, home), name, base).bring(base)
            self._hosts.put((name, base))

    def begin(self, cells: list[Cell]) -> None:
        """The cells will be played, in this order."""
        for number, cell in enumerate(cells):
            self._games[cell] = self._pool.submit(self._play, number, cell)

    def _play(self, number: int, cell: Cell) -> None:
        name, base = self._hosts.get()
        folder = self._folder / str(number)
        folder.mkdir()
        try:
            with closing(Stage(self._lab, folder, folder)) as stage:
                play(cell, stage, name, base)
        finally:
            self._hosts.put((name, base))

    def result(self, cell: Cell) -> None:
        """The cell has been played; what failed in it is raised."""
        self._games[cell].result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def players(
    lab_image: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Players]:
    """All cells of this session are being played."""
    lab = Lab.find(tmp_path_factory.mktemp("lab"))
    try:
        nixos_switch.adopt(Lab.up(lab.folder.path, HOSTS))
        with closing(Players(lab, tmp_path_factory.mktemp("cells"))) as players:
            chosen = [
                item.callspec.params["cell"]
                for item in request.session.items
                if hasattr(item, "callspec") and "cell" in item.callspec.params
            ]
            players.begin(chosen)
            yield players
    finally:
        lab.down()
