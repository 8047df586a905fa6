"""Which path of a host may be like a new one, and what that promises."""

from __future__ import annotations

import pytest

from fleet.store.deltas.bases import Bases, estimate
from fleet.store.wire import PathInfo


def path(name: str, letter: str = "a") -> str:
    return f"/nix/store/{letter * 32}-{name}"


def info(name: str, size: int, letter: str = "a") -> PathInfo:
    return PathInfo(path=path(name, letter), nar_hash="ff", nar_size=size)


def names(found: list[PathInfo]) -> list[str]:
    return [one.path[len("/nix/store/") + 33 :] for one in found]


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        pytest.param("curl-8.9.1", ["curl-8.9.0", "curl-8.4.0", "curl-8.9.0-man"], id="another-version"),
        pytest.param("curl-8.9.1-man", ["curl-8.9.0-man", "curl-8.9.0", "curl-8.4.0"], id="its-output"),
        pytest.param("curl-8.9.0", ["curl-8.9.0"], id="the-same-name-alone"),
        pytest.param("python3.11-six-1.17", ["python3.11-six-1.16"], id="a-digit-in-the-package-s-name"),
        pytest.param("unit-sshd.service", ["unit-sshd.service"], id="without-a-version"),
        pytest.param("libcurl-8.9.1", [], id="a-new-package"),
    ],
)
def test_paths_of_the_same_package_are_found(new: str, expected: list[str]) -> None:
    sizes = {
        "curl-8.9.0": 1000, "curl-8.4.0": 900, "curl-8.9.0-man": 1001, "curl-7.0-dev": 5, "python3.11-six-1.16": 7,
        "python3.11-tomli-2.0": 7, "unit-sshd.service": 3,
    }  # fmt: skip
    bases = Bases(info(name, size) for name, size in sizes.items())
    assert names(bases.like(info(new, 1001, "b"))) == expected


def test_of_several_with_one_name_those_of_like_size_come_first() -> None:
    bases = Bases(info("source", size, letter) for letter, size in zip("abcd", (10, 5000, 480, 520), strict=True))
    found = bases.like(info("source", 500, "z"))
    assert [one.nar_size for one in found] == [480, 520, 10]


def test_a_base_that_is_forgotten_is_not_found() -> None:
    bases = Bases([info("curl-8.9.0", 1), info("curl-8.4.0", 1)])
    bases.forget([path("curl-8.9.0")])
    assert names(bases.like(info("curl-8.9.0", 1, "b"))) == ["curl-8.4.0"]


def test_a_rebuild_is_expected_to_be_small_and_a_new_package_is_not() -> None:
    there = [path("curl-8.9.0"), path("openssl-3.0.13")]
    rebuilt = estimate({path("curl-8.9.0", "b"): 1_000_000}, there)
    updated = estimate({path("openssl-3.0.14", "b"): 1_000_000}, there)
    unknown = estimate({path("vim-9.1", "b"): 1_000_000}, there)
    assert rebuilt < 0.02e6 < updated < 0.13e6 < unknown < 0.5e6
    assert estimate({}, there) == 0
    assert estimate({path(f"unit-{n}.service"): 300 for n in range(100)}, []) > 100 * 200
