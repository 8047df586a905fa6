"""What plans and runs need of the local store stays there, and what they leave goes: the real Nix and its collector."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import TYPE_CHECKING

from fleet import nix
from fleet.library.garbage_here import find_here, free_here
from fleet.machine.local import LocalMachine
from fleet.model import RunId
from fleet.state import open_state
from tests.contract.test_store import nix_store

if TYPE_CHECKING:
    from pathlib import Path

DERIVATION = 'derivation {{ name = "kept-by-a-plan"; system = "riscv64-linux"; builder = "/no"; for = "{}"; }}'


def test_derivation_is_kept_that_nobody_here_can_build(tmp_path: Path) -> None:
    argv = ["nix-instantiate", "--add-root", str(tmp_path / "evaluated"), "--indirect"]
    argv += ["--expr", DERIVATION.format(tmp_path)]
    subprocess.run(argv, check=True, capture_output=True)
    derivation = str((tmp_path / "evaluated").resolve())
    here = LocalMachine()
    referring = json.loads(asyncio.run(here.run(nix.refer_to([derivation]))).stdout)
    rooted = asyncio.run(here.run(nix.realise([referring], root=tmp_path / "closure")))
    assert (rooted.status, sorted(nix_store("--query", "--roots", derivation).splitlines())) == (
        0, [f"{tmp_path / 'closure'} -> {referring}", f"{tmp_path / 'evaluated'} -> {derivation}"],
    )  # fmt: skip


def referring(text: str, *others: str) -> str:
    """A store path that nothing keeps, and that refers to these others."""
    context = " ".join(f"(builtins.storePath {nix.quoted(other)})" for other in others)
    expression = f"builtins.toFile {nix.quoted('garbage')} (toString [ {nix.quoted(text)} {context} ])"
    argv = ["nix-instantiate", "--eval", "--json", "--read-write-mode", "--expr", expression]
    return str(json.loads(subprocess.run(argv, check=True, capture_output=True).stdout))


def test_what_only_an_old_build_had_rooted_goes_and_nothing_else(tmp_path: Path) -> None:
    state, here = open_state(tmp_path / "state"), LocalMachine()
    shared, own, others = (referring(f"{tmp_path} {name}") for name in ("shared", "own", "somebody's"))
    tops = [referring(f"{tmp_path} {number}", *needs) for number, needs in enumerate(([shared, own], [shared]))]
    for number, top in enumerate(tops):
        with state.hold(RunId(f"2026112{number}T000000-abcdef")) as folder:
            assert asyncio.run(here.run(nix.realise([top], root=folder / "closure"))).status == 0
    found = asyncio.run(find_here(state, here, keep=1))
    assert (found.tidied.builds, found.paths) == (("20261120T000000-abcdef",), tuple(sorted((tops[0], own))))
    assert found.bytes == sum(int(nix_store("--query", "--size", path)) for path in (tops[0], own))
    with_all = {tops[0], tops[1], shared, own, others}
    assert not nix_store("--check-validity", "--print-invalid", *with_all).split()
    gone = asyncio.run(free_here(state, here, found, keep=1))
    assert (gone.tidied, gone.paths, gone.bytes) == (found.tidied, found.paths, found.bytes)
    assert set(nix_store("--check-validity", "--print-invalid", *with_all).split()) == {tops[0], own}
    assert asyncio.run(find_here(state, here, keep=1)).is_clean
    nix_store("--delete", others)
