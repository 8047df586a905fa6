"""What is compressed, against what, and how often."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from typing import TYPE_CHECKING

import pytest
from backports import zstd

from fleet.store import wire
from fleet.store.deltas.cache import Cache
from fleet.store.deltas.frames import Frames
from fleet.store.deltas.groups import PIECE, Cutter, Group
from fleet.store.nar import ChangedError, Nar
from fleet.store.supply import length
from fleet.store.wire import PathInfo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet.store.deltas.frames import Frame

CODE = random.Random(1).randbytes(300_000)


def stored(folder: Path, name: str, data: bytes) -> PathInfo:
    """A file as a path of a store."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    nar = Nar.of(str(folder / name))
    return PathInfo(path=str(folder / name), nar_hash=f"ff{hash(data) & 0xFFFFFFFF:08x}", nar_size=nar.size)


def nar(info: PathInfo) -> bytes:
    return bytes(Nar.of(info.path).read(0, info.nar_size))


def groups(info: PathInfo, base: PathInfo | None) -> list[Group]:
    cutter = Cutter()
    return cutter.add(info, base) + cutter.rest()


def read(frame: Frame, base: bytes) -> bytes:
    """What the host makes of it."""
    prefix = zstd.ZstdDict(base, is_raw=True).as_prefix if frame.has_base else None
    return zstd.decompress(frame.data, zstd_dict=prefix)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


async def one_frame(cache: Cache, group: Group) -> Frame:
    frames = Frames(cache)
    try:
        return await frames.frame(group)
    finally:
        await frames.close()


async def test_what_has_hardly_changed_is_little(tmp_path: Path, cache: Cache) -> None:
    old, new = stored(tmp_path, "old", CODE), stored(tmp_path, "new", CODE[:1000] + b"changed" + CODE[2000:])
    (group,) = groups(new, old)
    frame = await one_frame(cache, group)
    assert frame.has_base
    assert len(frame.data) < 1000
    assert read(frame, nar(old)) == wire.add_to_store_nar(new) + nar(new)


async def test_a_wrong_base_is_noticed_when_it_is_read(tmp_path: Path, cache: Cache) -> None:
    old, new = stored(tmp_path, "old", CODE), stored(tmp_path, "new", CODE[5000:])
    (group,) = groups(new, old)
    frame = await one_frame(cache, group)
    damaged = bytearray(nar(old))
    damaged[100_000] ^= 1
    with pytest.raises(zstd.ZstdError):
        read(frame, bytes(damaged))


async def test_a_base_that_does_not_help_is_not_used(tmp_path: Path, cache: Cache) -> None:
    text = " ".join(str(number**2) for number in range(20_000)).encode()
    old, new = stored(tmp_path, "old", os.urandom(200_000)), stored(tmp_path, "new", text)
    (group,) = groups(new, old)
    frame = await one_frame(cache, group)
    assert not frame.has_base
    assert read(frame, b"") == wire.add_to_store_nar(new) + nar(new)


@pytest.mark.parametrize("change", ["gone", "longer"])
async def test_a_base_that_is_not_as_it_was_is_not_used(tmp_path: Path, cache: Cache, change: str) -> None:
    old, new = stored(tmp_path, "old", CODE), stored(tmp_path, "new", CODE)
    file = tmp_path / "old"
    file.unlink() if change == "gone" else file.write_bytes(CODE + b"more than Nix knows of")
    (group,) = groups(new, old)
    assert not (await one_frame(cache, group)).has_base


async def test_a_new_path_that_is_not_as_it_was_is_an_error(tmp_path: Path, cache: Cache) -> None:
    new = stored(tmp_path, "new", CODE)
    (tmp_path / "new").write_bytes(CODE + b"more than Nix knows of")
    with pytest.raises(ChangedError):
        await one_frame(cache, groups(new, None)[0])


async def test_a_large_path_goes_in_pieces_against_what_is_as_far_from_the_start(tmp_path: Path, cache: Cache) -> None:
    data = random.Random(2).randbytes(5 * PIECE)
    old, new = stored(tmp_path, "old", data), stored(tmp_path, "new", b"one byte more or some" + data)
    frames = Frames(cache)
    made = [(group, await frames.frame(group)) for group in groups(new, old)]
    await frames.close()
    assert len(made) == 6
    assert sum(len(frame.data) for _, frame in made) < 20_000
    whole = b"".join(read(frame, nar(old)[group.base[0].start : group.base[0].end]) for group, frame in made)
    assert whole == wire.add_to_store_nar(new) + nar(new)


async def test_the_best_of_several_bases_is_found_by_trying(tmp_path: Path, cache: Cache) -> None:
    new = stored(tmp_path, "new", CODE)
    others = [stored(tmp_path, "other", os.urandom(300_000)), stored(tmp_path, "kin", CODE[:200_000])]
    gone = stored(tmp_path, "gone", CODE)
    (tmp_path / "gone").unlink()
    frames = Frames(cache)
    assert await frames.base(new, [*others, gone]) is others[1]
    assert await frames.base(new, [others[0]]) is others[0]
    assert await frames.base(new, []) is None
    await frames.close()


async def test_hosts_with_the_same_base_share_one_frame(tmp_path: Path, cache: Cache) -> None:
    old, new = stored(tmp_path, "old", CODE), stored(tmp_path, "new", CODE)
    frames = Frames(cache)
    made = await asyncio.gather(*(frames.frame(groups(new, old)[0]) for _ in range(8)))
    await frames.close()
    assert len({id(frame) for frame in made}) == 1


async def test_a_later_run_finds_it_in_the_cache_until_it_is_forgotten(tmp_path: Path, cache: Cache) -> None:
    old, new = stored(tmp_path, "old", CODE), stored(tmp_path, "new", CODE)
    (group,) = groups(new, old)
    first = await one_frame(cache, group)
    shutil.move(tmp_path / "new", tmp_path / "elsewhere")  # nothing is read again
    assert await one_frame(cache, group) == first
    frames = Frames(cache)
    frames.forget([group])
    with pytest.raises(FileNotFoundError):
        await frames.frame(group)
    await frames.close()


async def test_frames_of_other_bases_and_other_bytes_have_other_keys(tmp_path: Path, cache: Cache) -> None:
    old, new = stored(tmp_path, "old", CODE), stored(tmp_path, "new", CODE)
    other = stored(tmp_path, "other", CODE[::-1])
    found = {
        (await one_frame(cache, group)).data for group in (*groups(new, old), *groups(new, other), *groups(new, None))
    }
    assert len(found) == 2  # against `other` nothing is gained
    assert length(new) > new.nar_size


def test_the_cache_keeps_within_its_limit_and_lets_go_what_was_not_used(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=100_000)
    for number in range(50):
        cache.put(f"key-{number}", bytes([number]) * 10_000)
        os.utime(tmp_path / f"key-{number}", (number, number))
        cache.get("key-0")
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 120_000
    assert cache.get("key-0") == bytes(10_000)
    assert cache.get("key-49") == bytes([49]) * 10_000
    assert cache.get("key-1") is None


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[Path]:
    Cache(tmp_path).put("key", b"value")
    yield tmp_path / "key"
    assert Cache(tmp_path).get("key") is None
    assert not (tmp_path / "key").exists()


def test_a_value_that_was_cut_short_is_no_value(damaged: Path) -> None:
    damaged.write_bytes(damaged.read_bytes()[:-1])


def test_a_value_that_was_changed_is_no_value(damaged: Path) -> None:
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")


def test_two_controllers_share_a_cache(tmp_path: Path) -> None:
    one, two = Cache(tmp_path), Cache(tmp_path)
    one.put("key", b"value")
    two.put("key", b"value")
    assert one.get("key") == two.get("key") == b"value"
    two.drop("key")
    one.drop("key")
    assert one.get("key") is None
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_only_forgets(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file/cache")
    cache.put("key", b"value")
    assert cache.get("key") is None
    cache.drop("key")
