"""What a lock file pins a flake to, and what does not go together in what its hosts end with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fleet import nix
from fleet.inventory import load
from fleet.model import HostName, Severity
from fleet.source.pins import Ends, Pin, findings, pins, reference, source_path

if TYPE_CHECKING:
    from pathlib import Path

NIXPKGS = {"type": "github", "owner": "NixOS", "repo": "nixpkgs"}
HASH = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
LOCKS: dict[str, Any] = {
    "root": "root",
    "nodes": {
        "root": {"inputs": {"nixpkgs": "nixpkgs_2", "disko": "disko", "stable": ["disko", "nixpkgs"]}},
        "disko": {"original": {"type": "git", "url": "https://example.org/disko", "ref": "main"}, "locked": {}},
        "nixpkgs": {"original": NIXPKGS, "locked": {"rev": "aa" * 20, "lastModified": 5}},
        "nixpkgs_2": {
            "original": {**NIXPKGS, "ref": "nixos-26.05"},
            "locked": {**NIXPKGS, "rev": "1f" * 20, "narHash": HASH, "lastModified": 1_700_000_000},
        },
    },
}


def test_inputs_that_the_flake_names_come_first_and_under_its_own_names() -> None:
    found = pins("/srv/home", LOCKS)
    assert [(pin.name, pin.is_direct) for pin in found] == [("disko", True), ("nixpkgs", True), ("nixpkgs", False)]
    assert found[1] == Pin(
        flake="/srv/home",
        name="nixpkgs",
        is_direct=True,
        source="github:NixOS/nixpkgs/nixos-26.05",
        revision="1f" * 20,
        changed=1_700_000_000,
        path=source_path(HASH),
    )


@pytest.mark.parametrize(
    ("original", "written"),
    [
        ({**NIXPKGS, "ref": "nixos-26.05"}, "github:NixOS/nixpkgs/nixos-26.05"),
        ({"type": "git", "url": "https://example.org/a", "ref": "main"}, "git+https://example.org/a?ref=main"),
        ({"type": "tarball", "url": "https://example.org/a.tar.gz"}, "https://example.org/a.tar.gz"),
        ({"type": "indirect", "id": "nixpkgs"}, "indirect:nixpkgs"),
        ({"type": "path", "path": "/srv/a"}, "path:/srv/a"),
    ],
)
def test_an_input_is_shown_as_one_writes_it(original: dict[str, str], written: str) -> None:
    assert reference(original) == written


@pytest.mark.parametrize(
    "locks", [{}, {"nodes": 3}, {"nodes": {"root": []}}, {"nodes": {"root": {"inputs": []}, "a": 7}}]
)
def test_what_is_no_lock_file_has_no_inputs(locks: dict[str, Any]) -> None:
    assert pins("/srv/home", locks) == ()


@pytest.mark.parametrize("nar_hash", ["", "sha256-", "sha256-!!!", "sha256-YQ==", f"sha512-{HASH[7:]}"])
def test_what_is_no_hash_of_a_source_has_no_path(nar_hash: str) -> None:
    assert source_path(nar_hash) is None


HOSTS = """
[fleet]
name = "home"

[hosts.web]
[hosts.db]
[hosts.gpu]
kind = "gpu"
checks = [{ name = "gpu", gpu = true, min_driver = "570.86" }]
"""


def found(tmp_path: Path, **ends: Ends) -> list[tuple[str, Severity, str]]:
    (tmp_path / "fleet.toml").write_text(HOSTS)
    hosts = load(tmp_path / "fleet.toml").hosts.values()
    known = [pin for pin in pins("/srv/home", LOCKS) if pin.path is not None]
    told = findings(hosts, {HostName(name): one for name, one in ends.items()}, known)
    return [(finding.kind, finding.severity, finding.message) for finding in told]


def test_hosts_of_one_kind_that_are_made_of_several_nixpkgs_are_wrong(tmp_path: Path) -> None:
    ours = Ends(nixpkgs=source_path(HASH))
    [(kind, severity, message)] = found(tmp_path, web=ours, db=Ends(nixpkgs="/nix/store/other"), gpu=ours)
    assert (kind, severity) == ("several_nixpkgs", Severity.ERROR)
    assert message == ("hosts of kind server are made of 2 nixpkgs: nixpkgs 1f1f1f1f1f1f: web; /nix/store/other: db")


def test_kinds_may_differ(tmp_path: Path) -> None:
    ours = Ends(nixpkgs=source_path(HASH))
    [(kind, severity, _)] = found(tmp_path, web=ours, db=ours, gpu=Ends(nixpkgs="/nix/store/other"))
    assert (kind, severity) == ("several_nixpkgs", Severity.NOTE)
    assert found(tmp_path, web=ours, db=ours, gpu=ours) == []


def test_what_is_not_known_of_a_host_is_not_wrong(tmp_path: Path) -> None:
    assert found(tmp_path, web=Ends(), db=Ends(nixpkgs="/nix/store/a"), gpu=Ends()) == []


def test_a_driver_that_the_hosts_own_check_would_refuse_is_wrong(tmp_path: Path) -> None:
    told = found(tmp_path, gpu=Ends(driver="560.35.03"))
    assert told == [
        (
            "driver_too_old",
            Severity.ERROR,
            "gpu would get NVIDIA driver 560.35.03, and its check gpu wants 570.86 or later",
        )
    ]
    assert found(tmp_path, gpu=Ends(driver="570.124")) == []


def test_different_drivers_and_cuda_are_told(tmp_path: Path) -> None:
    told = found(tmp_path, web=Ends(driver="580.1", cuda="12.8"), gpu=Ends(driver="570.124", cuda="12.4"))
    assert [(kind, severity) for kind, severity, _ in told] == [
        ("several_drivers", Severity.NOTE),
        ("several_cudas", Severity.NOTE),
    ]


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("nix (Nix) 2.8.0", ("lock", "--update-input", "nixpkgs", "/srv/home")),
        ("nix (Nix) 2.18.9", ("lock", "--update-input", "nixpkgs", "/srv/home")),
        ("nix (Nix) 2.19.0", ("update", "nixpkgs", "--flake", "/srv/home")),
        ("nix (Nix) 3.1.0", ("update", "nixpkgs", "--flake", "/srv/home")),
        ("nix (Lix, like Nix) 2.96.0", ("lock", "--update-input", "nixpkgs", "/srv/home")),
        ("", ("lock", "--update-input", "nixpkgs", "/srv/home")),
    ],
)
def test_one_input_is_updated_in_the_words_of_each_nix(version: str, words: tuple[str, ...]) -> None:
    argv = nix.update_input("/srv/home", "nixpkgs", version).argv
    assert argv[argv.index("flake") + 1 :] == words
