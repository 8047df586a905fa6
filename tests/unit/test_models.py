"""The list of models that a system has: what is believed of it, and what a plan tells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import ConfigError, UnfitError
from fleet.machine import Output
from fleet.model import Closure, Derivation
from fleet.steps import models
from tests.fakes import FakeMachine, runs
from tests.unit import builders

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = {
    "name": "x.gguf", "path": f"/nix/store/{'0' * 32}-x.gguf", "url": "https://example.org/x.gguf",
    "hash": "sha256-A", "license": "mit", "size": 200 << 20, "vram": None, "inClosure": False,
}  # fmt: skip


def listed(folder: Path, *entries: dict[str, Any] | str) -> tuple[models.Model, ...]:
    file = folder / "etc" / "fleet" / "models.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"version": 1, "models": entries}))
    return models.models_of(Closure(str(folder)))


def test_a_system_without_a_list_has_no_models(tmp_path: Path) -> None:
    assert models.models_of(Closure(str(tmp_path))) == ()


def test_models_are_told_with_size_and_license_and_whether_they_come(tmp_path: Path) -> None:
    other = {
        "name": "y",
        "path": f"/nix/store/{'1' * 32}-y",
        "inClosure": True,
        "license": "apache-2.0",
        "size": 1 << 20,
    }
    found = listed(tmp_path, ENTRY, {**ENTRY, **other})
    assert [model.is_beside for model in found] == [True, False]
    assert models.told(found, [found[0].path]) == "gets x.gguf (200 MiB, mit); has y (1 MiB, apache-2.0)"


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/etc/passwd"},
        {"path": f"/nix/store/{'0' * 32}-other"},
        {"url": "ext::sh -c id"},
        {"name": "x\x1b[31m.gguf"},
        {"size": "1"},
        {"vram": True},
        {"license": 3},
    ],
)
def test_a_list_that_is_none_is_refused_with_its_place(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"etc/fleet/models\.json: is no list of models"):
        listed(tmp_path, {**ENTRY, **change})


def test_a_list_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no list of models"):
        listed(tmp_path, "text")


@pytest.mark.parametrize(("said", "fits"), [("8192\n", True), ("4000\n4000\n", True), ("7999\n", False), ("", False)])
async def test_the_memory_of_all_gpus_has_to_do(tmp_path: Path, said: str, fits: bool) -> None:  # noqa: FBT001 - a case
    found = listed(tmp_path, {**ENTRY, "vram": 8000})
    machine = FakeMachine((runs("sh", "-c"), Output(status=0, stdout=said)))
    if fits:
        await models.require_vram(machine, builders.host(), found)
    else:
        with pytest.raises(UnfitError, match=r"x\.gguf needs 8000 MiB"):
            await models.require_vram(machine, builders.host(), found)


async def test_a_host_is_not_asked_for_gpus_that_no_model_needs(tmp_path: Path) -> None:
    await models.require_vram(FakeMachine(), builders.host(), listed(tmp_path, ENTRY))


def test_a_gate_takes_no_model_beside_the_system(tmp_path: Path) -> None:
    found = listed(tmp_path, ENTRY)
    with pytest.raises(UnfitError, match=r"has a gate, and x\.gguf"):
        models.require_no_gate(builders.host(gate=True, user="fleet"), found)
    models.require_no_gate(builders.host(), found)


def derivation(folder: Path, **environment: str) -> Derivation:
    """A derivation with this environment, as Nix writes it to its store."""
    escaped = {
        name: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        for name, value in environment.items()
    }
    pairs = ",".join(f'("{name}","{value}")' for name, value in escaped.items())
    file = folder / "system.drv"
    file.write_text(
        f'Derive([("out","/nix/store/{"0" * 32}-system","","")],[],[],"x86_64-linux","/bin/sh",[],[{pairs}])'
    )
    return Derivation(str(file))


def test_a_system_that_is_not_built_here_tells_its_models_by_its_derivation(tmp_path: Path) -> None:
    entry = {**ENTRY, "license": 'a "quoted" \\ one'}
    text = json.dumps({"version": 1, "models": [entry]}, indent=1)
    (found,) = models.models_of_derivation(derivation(tmp_path, buildInputs="", fleetModels=text, name="system"))
    assert (found.path, found.license, found.is_beside) == (ENTRY["path"], 'a "quoted" \\ one', True)
    assert models.models_of_derivation(derivation(tmp_path, name="system")) == ()


def test_what_looks_like_the_list_in_another_variable_is_none(tmp_path: Path) -> None:
    text = '("fleetModels","x")'
    assert models.models_of_derivation(derivation(tmp_path, note=text)) == ()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"models": [1]}'])
def test_a_derivation_with_another_list_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"system\.drv: is no list of models"):
        models.models_of_derivation(derivation(tmp_path, fleetModels=text))
