"""A lab's folder keeps what people wrote, and gives up all else."""

from __future__ import annotations

import subprocess
import tomllib
from typing import TYPE_CHECKING

import pytest

from fleet import inventory
from fleet.errors import ConfigError
from fleet.lab.folder import Folder, checked_names

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = Folder(tmp_path / "lab")
    with folder.alone():
        folder.write_busybox(b"program")
        folder.write_flake()
        folder.write_hosts({"laptop": 20001, "gpu-01": 20002, "pi-edge": 20003, "web": 20004}, "x86_64-linux")
    return folder


def test_inventory_describes_every_host(folder: Folder) -> None:
    hosts = inventory.load(folder.inventory).hosts
    assert [(host.name, host.kind.value, host.port) for host in hosts.values()] == [
        ("laptop", "laptop", 20001),
        ("gpu-01", "gpu", 20002),
        ("pi-edge", "pi", 20003),
        ("web", "server", 20004),
    ]
    for host in hosts.values():
        assert host.address == ("127.0.0.1",)
        assert host.identity_file == folder.path / "keys" / "id_ed25519"
        assert host.host_key == folder.key(host.name)[1]
        assert (host.system, host.substitute, host.settle) == ("x86_64-linux", False, 1.0)
        assert [(check.from_, check.http) for check in host.checks] == [("host", "http://127.0.0.1:8080/")]


def test_flake_is_found_inside_a_repository_that_does_not_track_it(folder: Folder) -> None:
    assert inventory.load(folder.inventory).flake == f"path:{folder.path}"
    assert (folder.path / ".gitignore").read_text() == "*\n"


def test_every_host_has_a_closure_and_a_key_of_its_own(folder: Folder) -> None:
    assert (folder.path / "hosts" / "web.nix").exists()
    keys = {folder.key(name)[1] for name in ("laptop", "gpu-01", "id_ed25519")}
    assert len(keys) == 3


def test_private_keys_are_for_the_owner_alone_and_openssh_reads_them(folder: Folder) -> None:
    _, public = folder.key("id_ed25519")
    private = folder.path / "keys" / "id_ed25519"
    assert private.stat().st_mode & 0o777 == 0o600
    read = subprocess.run(["ssh-keygen", "-y", "-f", str(private)], check=True, capture_output=True, text=True)
    assert read.stdout.split()[:2] == public.split()


def test_second_up_changes_no_byte(folder: Folder) -> None:
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    folder.write_flake()
    folder.write_busybox(b"another")
    folder.write_hosts({"laptop": 20001, "gpu-01": 20002}, "x86_64-linux")
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before


def test_new_port_is_written_into_the_hosts_own_table_alone(folder: Folder) -> None:
    text = folder.inventory.read_text().replace("kind = ", "# mine\nkind = ")
    folder.inventory.write_text(text)
    folder.write_hosts({"gpu-01": 30000}, "x86_64-linux")
    assert folder.inventory.read_text() == text.replace("20002", "30000")


def test_new_port_that_fits_nowhere_is_told(folder: Folder) -> None:
    hosts = tomllib.loads(folder.inventory.read_text())["hosts"]
    inline = ", ".join(f'"{name}" = {{ port = {table["port"]} }}' for name, table in hosts.items())
    folder.inventory.write_text(f"hosts = {{ {inline} }}\n")
    with pytest.raises(ConfigError) as caught:
        folder.write_hosts({"gpu-01": 30000}, "x86_64-linux")
    assert caught.value.hint == "write port = 30000 into [hosts.gpu-01]"


def test_new_host_is_added_to_an_edited_inventory(folder: Folder) -> None:
    folder.inventory.write_text(folder.inventory.read_text() + "# mine\n")
    folder.write_hosts({"late": 20005}, "x86_64-linux")
    assert "# mine\n" in folder.inventory.read_text()
    assert inventory.load(folder.inventory).hosts.keys() >= {"laptop", "late"}


def test_remove_leaves_nothing(folder: Folder) -> None:
    folder.state.mkdir(parents=True)
    (folder.path / "flake.lock").touch()
    assert folder.remove() == []
    assert not folder.path.exists()
    assert not folder.state.exists()


def test_remove_keeps_what_people_wrote_or_edited(folder: Folder) -> None:
    folder.inventory.write_text(folder.inventory.read_text() + "# mine\n")
    folder.write_hosts({"late": 20005}, "x86_64-linux")  # writing to it does not make it ours again
    (folder.path / "hosts" / "mine.nix").write_text("{ }")
    assert folder.remove() == ["fleet.toml", "hosts/mine.nix"]


def test_remove_touches_no_folder_that_is_no_lab(tmp_path: Path) -> None:
    (tmp_path / "flake.lock").touch()
    assert Folder(tmp_path).remove() == []
    assert (tmp_path / "flake.lock").exists()


def test_somebodys_fleet_is_no_lab(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text("[hosts.production]\n")
    with pytest.raises(ConfigError, match="was not written by fleet lab up"):
        Folder(tmp_path).check_ours()


def test_labs_of_two_folders_have_different_names(tmp_path: Path) -> None:
    assert Folder(tmp_path / "a").name != Folder(tmp_path / "b").name


@pytest.mark.parametrize("name", ["", "Web", "a.b", "a_b", "-a", "a-", "../a", "a" * 64])
def test_name_that_no_host_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a lab host"):
        checked_names([name])


def test_name_given_twice_counts_once() -> None:
    assert checked_names(["b", "a", "b"]) == ("b", "a")
