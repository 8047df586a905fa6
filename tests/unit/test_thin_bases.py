"""Which path of a host may be like a new one, and what that promises."""

from __future__ import annotations

import pytest

from fleet.store.thin.bases import Bases, estimate


def path(name: str, letter: str = "a") -> str:
    return f"/nix/store/{letter * 32}-{name}"


def names(found: list[str]) -> list[str]:
    return [one[len("/nix/store/") + 33 :] for one in found]


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
    there = {
        path("curl-8.9.0"): 1000, path("curl-8.4.0"): 900, path("curl-8.9.0-man"): 1001, path("curl-7.0-dev"): 5,
        path("python3.11-six-1.16"): 7, path("python3.11-tomli-2.0"): 7, path("unit-sshd.service"): 3,
    }  # fmt: skip
    assert names(Bases(there).like(path(new, "b"), 1001)) == expected


def test_of_several_with_one_name_those_of_like_size_come_first() -> None:
    there = {path("source", letter): size for letter, size in zip("abcd", (10, 5000, 480, 520), strict=True)}
    found = Bases(there).like(path("source", "z"), 500)
    assert [one.split("/")[-1][0] for one in found] == ["c", "d", "a"]


def test_a_path_is_no_base_of_itself() -> None:
    assert Bases({path("curl-8.9.0"): 1}).like(path("curl-8.9.0"), 1) == []


def test_a_rebuild_is_expected_to_be_small_and_a_new_package_is_not() -> None:
    there = [path("curl-8.9.0"), path("openssl-3.0.13")]
    rebuilt = estimate({path("curl-8.9.0", "b"): 1_000_000}, there)
    updated = estimate({path("openssl-3.0.14", "b"): 1_000_000}, there)
    unknown = estimate({path("vim-9.1", "b"): 1_000_000}, there)
    assert rebuilt < 0.02e6 < updated < 0.13e6 < unknown < 0.5e6
    assert estimate({}, there) == 0
    assert estimate({path(f"unit-{n}.service"): 300 for n in range(100)}, []) > 100 * 200
