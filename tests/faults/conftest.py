"""Plays the cells of the fault table on several lab hosts at once; each test is one cell and waits for its own."""

from __future__ import annotations

import functools
import queue
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from fleet.lab import Lab
from tests.containers import nixos_switch
from tests.containers.conftest import lab_image
from tests.containers.driver import Stage
from tests.faults.play import play
from tests.faults.play_drivers import play_driver
from tests.faults.scene import Scene, build, system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    Plays = Callable[[Any, Stage], None]

__all__ = ["lab_image"]
HOSTS = ("alpha", "beta", "gamma")
DEBIAN = ("delta", "epsilon")
"""Hosts that have no NixOS: those of the other drivers."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "faults":
            item.add_marker(pytest.mark.container)


class Players:
    """Hosts that play cells, each one at a time. `plays` is by their names what plays a cell there."""

    def __init__(self, lab: Lab, folder: Path, plays: Mapping[str, Plays]) -> None:
        self._lab = lab
        self._folder = folder
        self._hosts: queue.SimpleQueue[Plays] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(len(plays))
        self._games: dict[object, Future[None]] = {}
        for one in plays.values():
            self._hosts.put(one)

    def begin(self, cells: list[object]) -> None:
        """The cells will be played, in this order."""
        for number, cell in enumerate(cells):
            self._games[cell] = self._pool.submit(self._play, number, cell)

    def _play(self, number: int, cell: object) -> None:
        plays = self._hosts.get()
        folder = self._folder / str(number)
        folder.mkdir()
        try:
            with closing(Stage(self._lab, folder, folder)) as stage:
                plays(cell, stage)
        finally:
            self._hosts.put(plays)

    def result(self, cell: object) -> None:
        """The cell has been played; what failed in it is raised."""
        self._games[cell].result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def chosen(request: pytest.FixtureRequest, parameter: str) -> list[object]:
    """The cells of this session's tests, which have them as this parameter."""
    calls = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    return [call[parameter] for call in calls if parameter in call]


@contextmanager
def lab_of(hosts: Sequence[str], factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab with these hosts, which are gone afterwards, also if not all of them came up."""
    lab = Lab.find(factory.mktemp("lab"))
    try:
        yield Lab.up(lab.folder.path, hosts)
    finally:
        lab.down()


@pytest.fixture(scope="session")
def players(
    lab_image: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Players]:
    """All cells of this session are being played."""
    with lab_of(HOSTS, tmp_path_factory) as lab:
        nixos_switch.adopt(lab)
        folder = tmp_path_factory.mktemp("cells")
        plays = {}
        for name in HOSTS:
            base = build(lab.folder.path, folder, name, system(f"{name}.0"))
            home = folder / name
            home.mkdir()
            Scene(Stage(lab, home, home), name, base).bring(base)
            plays[name] = functools.partial(play, name=name, base=base)
        with closing(Players(lab, folder, plays)) as players:
            players.begin(chosen(request, "cell"))
            yield players


@pytest.fixture(scope="session")
def players_of_drivers(
    lab_image: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Players]:
    """All cells of other drivers than NixOS's are being played."""
    with lab_of(DEBIAN, tmp_path_factory) as lab:
        plays = {name: functools.partial(play_driver, name=name) for name in DEBIAN}
        with closing(Players(lab, tmp_path_factory.mktemp("cells"), plays)) as players:
            players.begin(chosen(request, "driver_cell"))
            yield players
