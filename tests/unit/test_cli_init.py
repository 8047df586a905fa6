"""`fleet init` writes a first fleet.toml, and never over another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.cli.init import ask_nix, init, write_first
from fleet.errors import ConfigError, EvaluationError
from fleet.inventory import load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FOUND = {"gpu-01": "x86_64-linux", "pi": "aarch64-linux", "broken": None, "odd": "x86_64-darwin"}


def found(_: Path) -> Mapping[str, str | None]:
    return FOUND


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    flake = tmp_path / "my fleet (old)"
    flake.mkdir()
    (flake / "flake.nix").write_text("{ outputs = _: { }; }")
    return flake


def test_the_written_file_is_an_inventory_of_the_flake(folder: Path) -> None:
    path, left_out = write_first(folder, name=None, discover=found)
    inventory = load(path)
    assert (inventory.name, inventory.flake, left_out) == ("my-fleet-old", str(folder), ())
    systems = ["x86_64-linux", "aarch64-linux", "x86_64-linux", "x86_64-linux"]
    assert {host.name: host.system for host in inventory.hosts.values()} == dict(zip(FOUND, systems, strict=True))


def test_a_name_that_no_host_can_have_is_left_out_and_told(folder: Path) -> None:
    path, left_out = write_first(folder, name="home", discover=lambda _: {"web": None, "my host": None})
    assert (list(load(path).hosts), left_out) == (["web"], ("my host",))


def test_an_inventory_is_never_overwritten(folder: Path) -> None:
    (folder / "fleet.toml").write_text("# mine")
    with pytest.raises(ConfigError, match="is there already"):
        write_first(folder, name=None, discover=found)
    assert (folder / "fleet.toml").read_text() == "# mine"


def test_a_folder_without_flake_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no flake\.nix"):
        write_first(tmp_path, name=None, discover=found)


def test_a_flake_without_hosts_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match="configures no hosts"):
        write_first(folder, name=None, discover=lambda _: {})
    assert not (folder / "fleet.toml").exists()


def test_a_wrong_name_writes_nothing(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[fleet\] name"):
        write_first(folder, name="a/b", discover=found)
    assert not (folder / "fleet.toml").exists()


NIX = """#!/bin/sh
case "$*" in
  *hostPlatform*) echo "error: attribute missing" >&2; exit 1 ;;
  *) echo '{"web":null}' ;;
esac
"""


def test_names_are_found_where_systems_cannot_be_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "nix").write_text(NIX)
    (folder / "nix").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    assert ask_nix(folder) == {"web": None}


def test_a_flake_that_nix_cannot_read_is_an_evaluation_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "nix").write_text("#!/bin/sh\necho 'error: \033[31msyntax' >&2; exit 1\n")
    (folder / "nix").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(EvaluationError) as caught:
        ask_nix(folder)
    assert caught.value.said == ("error: syntax",)
    (folder / "nix").unlink()
    with pytest.raises(EvaluationError, match="cannot run nix"):
        ask_nix(folder)


def test_it_says_what_a_fleet_without_checks_proves(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fleet.cli.init.ask_nix", found)
    assert init.callback is not None
    init.callback(folder, None)
    assert "no check is declared yet" in capsys.readouterr().err
