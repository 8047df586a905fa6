"""What a push takes, and that what cannot fit is refused before its first byte."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.errors import PushError, UnfitError
from fleet.machine.pipe import LocalStreams
from fleet.model import HostName
from fleet.steps.estimate import BLOCK, ENTRY, SPARE, Estimator, require_room, room
from fleet.steps.load import Load
from fleet.store.nar import ChangedError, Nar
from fleet.store.supply import Supply, length
from fleet.store.wire import PathInfo
from tests.unit.builders import facts

if TYPE_CHECKING:
    from collections.abc import Iterable


WEB = HostName("web-1")


class Shelf(Supply):
    """A supply whose paths are files of a test."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(LocalStreams())
        self.asked: list[str] = []
        self.error = error

    async def infos(self, paths: Iterable[str]) -> list[PathInfo]:
        if self.error:
            raise self.error
        found = list(paths)
        self.asked += found
        return [PathInfo(path=path, nar_hash="0" * 64, nar_size=Nar.of(path).size) for path in found]


@pytest.fixture
def paths(tmp_path: Path) -> tuple[str, ...]:
    files = (tmp_path / "one", tmp_path / "two")
    for number, file in enumerate(files, 1):
        file.write_bytes(b"x" * 5000 * number)
    return tuple(map(str, files))


async def test_push_is_weighed_to_the_byte(paths: tuple[str, ...]) -> None:
    shelf = Shelf()
    one, two = paths
    load = Load(missing=paths, substitutes={two: 7})
    weighed = await Estimator(shelf).estimate(load, WEB, speed=100.0)
    (info,) = await Shelf().infos([one])
    assert shelf.asked == [one]
    assert weighed.wire_bytes == length(info)
    assert weighed.push_seconds == length(info) / 100
    assert weighed.room_needed == 2 * BLOCK + 3 * BLOCK + 2 * ENTRY + SPARE  # what it fetches needs room too
    assert (await Estimator(shelf).estimate(load, WEB, speed=None)).push_seconds is None


@pytest.mark.parametrize(("estimate", "wire"), [(77, 77), (None, 5000)])
async def test_slow_link_takes_what_is_estimated_for_it(
    paths: tuple[str, ...], estimate: int | None, wire: int
) -> None:
    async def deltas(infos: list[PathInfo]) -> int:
        assert [info.path for info in infos] == [paths[0]]
        return estimate or 0

    load = Load(missing=paths[:1])
    weighed = await Estimator(Shelf()).estimate(
        load, WEB, speed=7.0, over_slow_link=None if estimate is None else deltas
    )
    assert wire <= weighed.wire_bytes < wire + 1000
    assert weighed.push_seconds == weighed.wire_bytes / 7


@pytest.mark.parametrize(("spare", "fits"), [(0, True), (-1, False)])
async def test_what_would_not_fit_is_refused(paths: tuple[str, ...], spare: int, fits: bool) -> None:  # noqa: FBT001
    needed = sum(map(room, paths)) + SPARE
    load = await Estimator(Shelf()).estimate(Load(missing=paths), WEB, speed=None)
    assert load.room_needed == needed
    with contextlib.nullcontext() if fits else pytest.raises(UnfitError, match="needs 33 MiB on /nix, 32 MiB are free"):
        require_room(WEB, facts(nix_free=needed + spare), load)


def test_host_that_gets_nothing_needs_no_room() -> None:
    require_room(WEB, facts(nix_free=0), Load())


@pytest.mark.parametrize("error", [ChangedError("x is not in the local store"), OSError(5, "Input/output error")])
async def test_store_that_cannot_be_read_is_told(error: Exception) -> None:
    with pytest.raises(PushError, match="the local store cannot be read"):
        await Estimator(Shelf(error)).estimate(Load(missing=("/nix/store/x",)), WEB, speed=None)


def test_room_counts_what_a_disk_needs(tmp_path: Path) -> None:
    """Many small files take far more than their NAR: by the disk's own count, never less than it uses."""
    tree = tmp_path / "tree"
    for number in range(40):
        folder = tree / f"folder-{number}"
        folder.mkdir(parents=True)
        for size in (0, 1, 100, 4096, 4097):
            (folder / f"file-{size}").write_bytes(b"x" * size)
        (folder / "link").symlink_to("file-1")
    used = sum(Path(parent, name).lstat().st_blocks * 512 for parent, _, files in os.walk(tree) for name in files)
    in_a_folder = 5 * BLOCK + 6 * ENTRY  # nothing, three times a block, and two blocks; the link is in its inode
    assert room(str(tree)) == 40 * (in_a_folder + BLOCK + ENTRY) + BLOCK + ENTRY
    assert room(str(tree)) > used
    assert room(str(tree)) > 2 * Nar.of(str(tree)).size


def test_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "file").write_bytes(bytes(1 << 20))
    (tmp_path / "link").symlink_to("big")
    assert room(str(tmp_path / "link")) <= BLOCK + ENTRY
