"""Images: the same bytes each time, bounded layers, and nothing in them that the store does not vouch for."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from fleet.errors import ConfigError
from fleet.images import archive, host_recipe, packages, partial, platform_of, program_recipe, write_image
from fleet.images.layers import layers
from fleet.store.nar import Nar
from fleet.store.wire import PathInfo

if TYPE_CHECKING:
    from pathlib import Path

HASHES = "0123456789abcdfghijklmnpqrsvwxyz"
TOP = f"/nix/store/{'z' * 32}-system"


def store(number: int, name: str) -> str:
    word = "".join(HASHES[(number >> shift) & 31] for shift in (10, 5, 0))
    return f"/nix/store/{word:0>32}-{name}"


def info(path: str, *references: str, size: int = 1000) -> PathInfo:
    return PathInfo(path=path, references=references, nar_hash="0" * 64, nar_size=size)


def closure(count: int, *, version: str = "1.0") -> list[PathInfo]:
    """A top that needs everything, and libraries each of which needs the first."""
    paths = [store(number, f"lib{number}-{version}") for number in range(count)]
    first, *others = [info(paths[0]), *(info(path, paths[0]) for path in paths[1:])]
    return [first, *others, info(TOP, *paths)]


@pytest.mark.parametrize("count", [0, 1, 5, 98, 99, 100, 700])
def test_each_path_is_in_one_layer_and_layers_are_bounded(count: int) -> None:
    infos = closure(count) if count else [info(TOP)]
    divided = layers(infos, TOP, most=100)
    assert sorted(one.path for layer in divided for one in layer) == sorted(one.path for one in infos)
    assert len(divided) <= 100
    assert all(divided)
    assert [one.path for one in divided[-1]] == [TOP]


def test_what_many_paths_need_is_alone_and_lowest() -> None:
    divided = layers(closure(700), TOP, most=100)
    assert [one.path for one in divided[0]] == [store(0, "lib0-1.0")]


def test_what_is_large_is_alone_though_only_one_path_needs_it() -> None:
    large = store(5000, "cuda-12.8")
    infos = [*closure(700)[:-1], info(large, size=3 << 30)]
    infos.append(info(TOP, *(one.path for one in infos)))
    assert [large] in [[one.path for one in layer] for layer in layers(infos, TOP, most=100)]


def test_a_new_version_of_a_path_stays_in_its_group() -> None:
    before = closure(700)
    old, new = store(650, "lib650-1.0"), store(7000, "lib650-2.0")
    after = [info(new, *one.references) if one.path == old else one for one in before[:-1]]
    after.append(info(TOP, *(one.path for one in after)))
    names = [
        {tuple(one.path for one in layer) for layer in layers(infos, TOP, most=100)} - {(TOP,)}
        for infos in (before, after)
    ]
    assert len(names[0] - names[1]) == 1


def real(folder: Path, name: str) -> PathInfo:
    """A tree of files like one of a store, with the hash that a store would have of it."""
    path = folder / name
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "hello").write_bytes(b"#!/bin/sh\n")
    (path / "bin" / "hello").chmod(0o755)
    (path / "bin" / "hi").symlink_to("hello")
    (path / "empty").mkdir()
    (path / ("n" * 200)).write_bytes(b"x" * 1025)
    os.close(os.open(os.fsencode(path) + b"/\xff", os.O_CREAT))
    nar = Nar.of(str(path))
    return PathInfo(path=str(path), nar_hash=hashlib.sha256(nar.read(0, nar.size)).hexdigest(), nar_size=nar.size)


def written(*infos: PathInfo) -> tuple[bytes, archive.Image]:
    file = io.BytesIO()
    top = infos[-1].path
    made = write_image(file, infos, program_recipe("hello", top, "x86_64-linux", f"{top}/bin/hello"))
    return file.getvalue(), made


def test_an_image_is_the_same_bytes_whatever_the_times_and_modes_are(tmp_path: Path) -> None:
    one = real(tmp_path, "one")
    first, _ = written(one)
    (tmp_path / "one" / "empty").chmod(0o700)
    (tmp_path / "one" / "bin" / "hello").chmod(0o500)
    os.link(tmp_path / "one" / "bin" / "hello", tmp_path / "elsewhere")
    os.utime(tmp_path / "one", (5, 5))
    assert written(one)[0] == first


def test_an_image_is_an_oci_layout_and_what_docker_loads(tmp_path: Path) -> None:
    data, made = written(real(tmp_path, "one"), real(tmp_path, "two"))
    assert made.size == len(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as outer:
        files = {member.name: outer.extractfile(member) for member in outer}
        content = {name: file.read() for name, file in files.items() if file is not None}
    blobs = {name.rpartition("/")[2]: data for name, data in content.items() if name.startswith("blobs/")}
    assert all(hashlib.sha256(data).hexdigest() == digest for digest, data in blobs.items())
    assert json.loads(content["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (described,) = json.loads(content["index.json"])["manifests"]
    assert described["digest"] == made.digest
    manifest = json.loads(blobs[made.digest.removeprefix("sha256:")])
    configuration = json.loads(blobs[made.configuration.removeprefix("sha256:")])
    digests = [layer["digest"] for layer in manifest["layers"]]
    assert configuration["rootfs"]["diff_ids"] == digests
    assert [layer["size"] for layer in manifest["layers"]] == [len(blobs[digest[7:]]) for digest in digests]
    (docker,) = json.loads(content["manifest.json"])
    assert docker["RepoTags"] == [made.reference]
    assert docker["Layers"] == [f"blobs/sha256/{digest[7:]}" for digest in digests]
    assert content[docker["Config"]] == blobs[made.configuration[7:]]


def test_what_is_in_a_layer_belongs_to_root_and_may_not_be_written(tmp_path: Path) -> None:
    data, _ = written(real(tmp_path, "one"))
    with tarfile.open(fileobj=io.BytesIO(data)) as outer:
        (layer,) = [
            file
            for name in json.load(outer.extractfile("manifest.json") or io.BytesIO())[0]["Layers"]
            if (file := outer.extractfile(name))
        ]
        with tarfile.open(fileobj=layer) as inner:
            members = inner.getmembers()
            modes = {member.name.rpartition("/")[2]: member.mode for member in members}
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members} == {(0, 0, "", 1)}
    expected = {"hello": 0o555, "empty": 0o555, "n" * 200: 0o444, "tmp": 0o1777}
    assert expected.items() <= modes.items()


@pytest.mark.parametrize("change", ["content", "mode", "name"])
def test_a_path_that_is_not_what_the_store_says_makes_no_image(tmp_path: Path, change: str) -> None:
    one = real(tmp_path, "one")
    program = tmp_path / "one" / "bin" / "hello"
    if change == "content":
        program.write_bytes(b"#!/bin/sj\n")
    elif change == "mode":
        program.chmod(0o644)
    else:
        program.rename(program.with_name("hellp"))
    with pytest.raises(ConfigError, match="is damaged") as raised:
        written(one)
    assert "--repair-path" in raised.value.hint


def test_a_host_boots_by_its_init_and_knows_its_store() -> None:
    recipe = host_recipe("web-1", TOP, "aarch64-linux")
    assert recipe.configuration([])["config"]["Entrypoint"] == ["/init"]
    assert recipe.links == {"init": f"{TOP}/init"}
    assert recipe.has_registration
    assert recipe.platform == {"os": "linux", "architecture": "arm64"}
    assert recipe.tag == "z" * 32


def test_a_mac_has_no_image() -> None:
    with pytest.raises(ConfigError, match="aarch64-darwin"):
        platform_of("aarch64-darwin")


def test_the_program_is_the_wanted_one_the_only_one_or_that_of_the_name(tmp_path: Path) -> None:
    top = str(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hello").touch()
    assert packages.program_in(top, "", "other") == f"{top}/bin/hello"
    (tmp_path / "bin" / "other").touch()
    assert packages.program_in(top, "", "other") == f"{top}/bin/other"
    assert packages.program_in(top, "hello", "other") == f"{top}/bin/hello"
    assert packages.program_in(top, "bin/hello", "other") == f"{top}/bin/hello"
    for wanted, name in (("", "third"), ("third", ""), ("../x", ""), ("bin/../../x", "")):
        with pytest.raises(ConfigError) as raised:
            packages.program_in(top, wanted, name)
        assert raised.value.hint == "its programs: hello, other"


def test_names_lose_their_versions() -> None:
    path = "/nix/store/" + "0" * 32 + "-"
    assert packages.name_of(f"{path}hello-world-2.12-bin") == "hello-world"
    assert packages.name_of(f"{path}nixos-system-web-1-24") == "nixos-system-web"
    assert packages.name_of(f"{path}busybox") == "busybox"


def test_an_image_without_the_layers_that_are_there_is_the_rest_of_it(tmp_path: Path) -> None:
    data, made = written(real(tmp_path, "one"), real(tmp_path, "two"))
    lowest, top = partial.layers_of(io.BytesIO(data))
    less = io.BytesIO()
    size = partial.without(io.BytesIO(data), [lowest], less)
    assert size == len(less.getvalue()) < made.size
    with tarfile.open(fileobj=io.BytesIO(data)) as whole, tarfile.open(fileobj=io.BytesIO(less.getvalue())) as rest:
        assert [name for name in whole.getnames() if lowest[7:] not in name] == rest.getnames()
        one, other = whole.extractfile(f"blobs/sha256/{top[7:]}"), rest.extractfile(f"blobs/sha256/{top[7:]}")
        assert one is not None
        assert other is not None
        assert one.read() == other.read()


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ("", []),
        ('["a","b","x"]\n["a"]\n', ["a", "b"]),
        ('["a","b","c","d"]', ["a", "b", "c"]),
        ('["b","c"]', []),
        ('null\nno json\n{"a": 1}\n[1, 2]\n', []),
    ],
)
def test_only_layers_from_the_lowest_on_are_there(known: str, expected: list[str]) -> None:
    assert partial.shared(["a", "b", "c"], known) == expected
