"""`fleet init` writes a first fleet.toml, and never over another."""

from __future__ import annotations

import json
import resource
from typing import TYPE_CHECKING, Any

import pytest

from fleet.cli.init import init
from fleet.errors import CommandFailedError, ConfigError, EvaluationError
from fleet.inventory import load
from fleet.library.adopting import Adopted, adopt
from fleet.machine import Output
from fleet.machine.local import HERE
from tests.fakes import FakeMachine, runs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fleet.machine import Command
    from tests.fakes import Answer, Answers

SYSTEMS = {"gpu-01": "x86_64-linux", "pi": "aarch64-linux", "odd": "x86_64-freebsd", "plain": None}


def configuration(system: str | None = None, *, evaluates: bool = True) -> dict[str, Any]:
    return {
        "evaluates": evaluates, "system": system, "isImage": False, "fqdn": None, "ports": None,
        "administrators": None, "rootMayLogIn": None, "sudoNeedsPassword": None, "units": None,
    }  # fmt: skip


def printed(**configurations: object) -> Output:
    found = {"configurations": configurations, "nodes": {}, "raw": {}, "deploy": {}}
    return Output(status=0, stdout=json.dumps({**found, "hiveIs": None, "hasConfigurations": True, "isRawHive": False}))


def nix(answer: Answers) -> FakeMachine:
    return FakeMachine((runs("nix"), answer), (runs("git"), Output(status=128)), is_here=True)


FOUND = nix(printed(**{name: configuration(system) for name, system in SYSTEMS.items()}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    flake = tmp_path / "my fleet (old)"
    flake.mkdir()
    (flake / "flake.nix").write_text("{ outputs = _: { }; }")
    return flake


async def test_the_written_file_is_an_inventory_of_the_flake(folder: Path) -> None:
    adopted = await adopt(FOUND, folder, name=None)
    inventory = load(adopted.path)
    assert (inventory.name, inventory.flake, adopted.left_out) == ("my-fleet-old", str(folder), {})
    systems = {host.name: host.system for host in inventory.hosts.values()}
    assert systems == {"gpu-01": "x86_64-linux", "odd": "x86_64-linux", "pi": "aarch64-linux", "plain": "x86_64-linux"}


async def test_a_name_that_no_host_can_have_is_left_out_and_told(folder: Path) -> None:
    adopted = await adopt(nix(printed(**{"web": configuration(), "my host": configuration()})), folder, name="home")
    assert (list(load(adopted.path).hosts), list(adopted.left_out)) == (["web"], ["my host"])


async def test_an_inventory_is_never_overwritten(folder: Path) -> None:
    (folder / "fleet.toml").write_text("# mine")
    with pytest.raises(ConfigError, match="is there already"):
        await adopt(FOUND, folder, name=None)
    assert (folder / "fleet.toml").read_text() == "# mine"


async def test_a_full_disk_leaves_no_half_of_a_file(folder: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))  # bytes; Python ignores the signal
    try:
        with pytest.raises(ConfigError, match="cannot be written: File too large"):
            await adopt(FOUND, folder, name=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (folder / "fleet.toml").exists()
    await adopt(FOUND, folder, name=None)


async def test_a_folder_with_nothing_to_evaluate_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no flake\.nix and no default\.nix"):
        await adopt(FOUND, tmp_path, name=None)
    with pytest.raises(ConfigError, match="there is no such file"):
        await adopt(FOUND, tmp_path, name=None, expression="hosts.nix")


async def test_a_hive_as_it_is_needs_a_file_of_two_lines(tmp_path: Path) -> None:
    (tmp_path / "hive.nix").write_text("{ }")
    with pytest.raises(ConfigError, match="only colmena can evaluate a hive") as caught:
        await adopt(FOUND, tmp_path, name=None)
    assert "docs/adopting.md" in caught.value.hint


@pytest.mark.parametrize(
    ("names", "expression", "key"),
    [(["default.nix"], None, "default.nix"), (["flake.nix", "hosts.nix"], "hosts.nix", "hosts.nix")],
)
async def test_a_file_takes_the_place_of_a_flake(
    tmp_path: Path, names: list[str], expression: str | None, key: str
) -> None:
    for name in names:
        (tmp_path / name).write_text("{ }")
    adopted = await adopt(nix(printed(web=configuration())), tmp_path, name="home", expression=expression)
    assert load(adopted.path).expression == f"file:{tmp_path}/{key}"


async def test_a_flake_without_hosts_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match="configures no hosts"):
        await adopt(nix(printed()), folder, name=None)
    assert not (folder / "fleet.toml").exists()


async def test_a_wrong_name_writes_nothing(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[fleet\] name"):
        await adopt(FOUND, folder, name="a/b")
    assert not (folder / "fleet.toml").exists()


# --- hosts that do not evaluate ---------------------------------------------------------------------


async def test_a_host_that_throws_is_asked_again_for_its_reason_alone(folder: Path) -> None:
    def answer(command: Command) -> Answer:
        if "strict = true" not in str(command):
            return printed(web=configuration(), bad=configuration(evaluates=False))
        assert '"bad"' in str(command)
        return Output(status=1, stderr="warning: dirty\nerror: one\n\nerror: no \033[31mdisk\n")

    here = nix(answer)
    adopted = await adopt(here, folder, name="home")
    assert adopted.left_out == {"bad": "does not evaluate: no disk"}
    assert "# [hosts.bad]  # does not evaluate: no disk" in adopted.path.read_text()
    assert len([command for command in here.ran if "eval" in command.argv]) == 2


async def test_an_error_that_hides_all_hosts_is_that_of_one(folder: Path) -> None:
    def answer(command: Command) -> Answer:
        text = str(command)
        if "namesOnly = true" in text:
            return printed(web=None, bad=None)
        if 'only = [ "web" ]' in text:
            return printed(web=configuration())
        return Output(status=1, stderr="error: attribute 'x' missing\n")

    adopted = await adopt(nix(answer), folder, name="home")
    assert (adopted.hosts, adopted.left_out) == (("web",), {"bad": "does not evaluate: attribute 'x' missing"})


async def test_a_flake_that_nix_cannot_read_is_an_evaluation_error(folder: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot tell which hosts") as caught:
        await adopt(nix(Output(status=1, stderr="error: syntax\n")), folder, name=None)
    assert caught.value.said == ("error: syntax",)
    with pytest.raises(EvaluationError, match="cannot run nix"):
        await adopt(nix(CommandFailedError(HERE, "cannot run nix")), folder, name=None)
    with pytest.raises(EvaluationError, match="something else"):
        await adopt(nix(Output(status=0, stdout="[]")), folder, name=None)


@pytest.mark.parametrize("is_in_git", [True, False])
def test_it_says_what_a_fleet_without_checks_proves_and_what_comes_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_in_git: bool
) -> None:
    async def adopted(*_: object, **__: object) -> Adopted:
        left: Mapping[str, str] = {"bad": "no\ndisk"}
        return Adopted(path=folder / "fleet.toml", hosts=("web",), left_out=left, ignored=("iso",), is_in_git=is_in_git)

    monkeypatch.setattr("fleet.library.adopting.adopt", adopted)
    assert init.callback is not None
    init.callback(folder, None, None)
    said = capsys.readouterr().err
    assert "no check is declared yet" in said
    assert "left out: bad: no disk" in said
    assert "ignored: iso: makes an image" in said
    assert (f"git add {folder}/fleet.toml && fleet check" in said) == is_in_git
