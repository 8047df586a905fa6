"""Drivers other than NixOS's: whose places they use, what they take for active, and what they never run as root."""

from __future__ import annotations

import plistlib
from typing import TYPE_CHECKING

import pytest

from tests.contract.host_functions import SHELLS, call

if TYPE_CHECKING:
    from pathlib import Path

A, B = (f"/nix/store/{letter * 32}-system" for letter in "ab")


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "words", ["nixs -", "generic ''", "generic ../x", "generic .x", "generic 'a b'", "generic a/b"]
)
def test_driver_or_profile_that_is_none_is_refused(tmp_path: Path, shell: str, words: str) -> None:
    said = call(tmp_path, f"choose_driver {words}; echo went on", shell=shell)
    assert said.startswith("refused=usage")
    assert "went on" not in said


def test_profile_has_places_of_its_own_and_the_hosts_own_system_those_of_nixos(tmp_path: Path) -> None:
    shown = 'echo "$open $queue $record $roots $waker $profile"'
    own, profile = (call(tmp_path, f"choose_driver generic {name}; {shown}").split() for name in ("-", "tools"))
    assert own[-2:] == ["fleet-wake.service", "/nix/var/nix/profiles/fleet"]
    assert own[:4] == [str(tmp_path / place) for place in ("run/open", "run/queue", "record", "roots")]
    assert profile == [
        "/run/fleet/profile-tools/open", "/run/fleet/profile-tools/queue", f"{tmp_path}/record/profile-tools",
        f"{tmp_path}/roots/profile-tools", "fleet-wake-tools.service", "/nix/var/nix/profiles/fleet-profiles/tools",
    ]  # fmt: skip


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_active_is_what_was_noted_and_else_what_the_profile_names(tmp_path: Path, shell: str) -> None:
    (tmp_path / "profile").symlink_to(tmp_path)
    shown = 'find_noted; echo "$running $profiled"'
    none = f"/nix/store/{'0' * 32}-nothing"
    assert call(tmp_path, f"profile={tmp_path}/none; {shown}", shell=shell).split() == [none, none]
    noted = f"profile={tmp_path}/profile; note_running {A}; {shown}"
    assert call(tmp_path, noted, shell=shell).split() == [A, str(tmp_path)]


def test_folder_of_what_a_user_has_activated_is_in_the_path_of_nobody(tmp_path: Path) -> None:
    (tmp_path / "old" / "sw").mkdir(parents=True)
    asked = f"old={tmp_path}/old; system_bin"
    assert call(tmp_path, asked) == f"{tmp_path}/old/sw/bin:"
    assert call(tmp_path, f"driver=home_manager; {asked}", check=False) == ""


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("echo '[x INFO system_manager_engine::activate] Done'", 0),
        ("echo '[x ERROR system_manager_engine::activate] Error during activation: timeout' >&2", 1),
        ("echo '[x ERROR system_manager_engine::activate] Error during activation of tmp files'; exit 3", 3),
        ("exit 2", 2),
    ],
)
def test_activation_of_system_manager_fails_by_its_words_too(
    tmp_path: Path, shell: str, text: str, status: int
) -> None:
    script(tmp_path / "system/bin/activate", text)
    told = call(tmp_path, f"system_manager_activate {tmp_path}/system; echo $?", shell=shell)
    assert told.splitlines()[-1] == str(status)
    assert not list(tmp_path.glob(".e*"))


def test_units_of_system_manager_are_in_the_environment_that_it_names(tmp_path: Path) -> None:
    system = tmp_path / "system"
    (system / "etcFiles").mkdir(parents=True)
    (system / "etcFiles/etcFiles.json").write_text(f'{{"entries":{{}},"staticEnv":"{tmp_path}/env"}}')
    (tmp_path / "env/systemd/system").mkdir(parents=True)
    (tmp_path / "env/systemd/system/web.service").write_text("")
    units = "for unit in web.service other.service"
    asked = f"driver=system_manager; {units}; do is_unit_of $unit {system} && echo $unit; done"
    assert call(tmp_path, asked, check=False) == "web.service\n"


def test_generic_script_may_be_in_two_places_and_the_way_back_is_optional(tmp_path: Path) -> None:
    script(tmp_path / "one/bin/activate", "echo one")
    script(tmp_path / "two/activate", "echo two")
    script(tmp_path / "two/deactivate", "echo gone")
    assert call(tmp_path, f"generic_activate {tmp_path}/one; generic_activate {tmp_path}/two") == "one\ntwo\n"
    back = "generic_activate $nothing || echo cannot"
    assert call(tmp_path, f"new={tmp_path}/one; {back}") == "cannot\n"
    assert call(tmp_path, f"new={tmp_path}/two; {back}") == "gone\n"


def test_another_profile_of_the_host_is_open_too(tmp_path: Path) -> None:
    assert call(tmp_path, "find_open || echo none") == "none\n"
    (tmp_path / "run/open").mkdir()
    assert call(tmp_path, 'find_open && echo "$folder"') == f"{tmp_path}/run/open\n"


@pytest.fixture
def mac(tmp_path: Path) -> Path:
    """A folder with the tools of macOS that the host program asks, as far as manuals tell their answers."""
    script(
        tmp_path / "tools/sysctl",
        'case $2 in *boottime) echo "{ sec = 1000, usec = 5 } Mon" ;; *) echo "$BOOT" ;; esac',
    )
    script(tmp_path / "tools/uuidgen", "echo 8F3A09C2-1111-2222-3333-444455556666")
    said = (
        f'echo "$@" >>{tmp_path}/asked; case $1 in print) test -e {tmp_path}/runs && echo "  state = running" ;; esac'
    )
    script(tmp_path / "tools/launchctl", said)
    return tmp_path


def on_mac(folder: Path, asked: str, *, boot: str = "one") -> str:
    return call(
        folder, f"export BOOT={boot}; PATH={folder}/tools:$PATH; use_launchd; PATH={folder}/tools:$PATH\n{asked}"
    )


def test_mac_tells_its_boot_and_the_seconds_since(mac: Path) -> None:
    told = on_mac(mac, "boot_id; random_word; echo $word; clock; echo $(($(date +%s) - now)); is_root && echo root")
    boot, word, began, root = told.split()
    assert (boot, word, root) == ("one", "8f3a09c2-1111-2222-3333-444455556666", "root")
    assert int(began) in range(1000, 1010)  # as long as it took to ask twice


def test_job_of_launchd_has_the_command_and_comes_back_where_it_is_the_keeper(mac: Path) -> None:
    for options, again in (
        ("-p Type=exec -p Restart=always -p RestartSec=0.1", {"SuccessfulExit": False}),
        ("", False),
    ):
        job = f"launchd_start fleet-x --description=words {options} /nix/store/x-fleet-host keep run-1"
        made = on_mac(mac, f"{job}; cat {mac}/run/fleet-x.plist")
        assert (mac / "asked").read_text().splitlines()[-1] == f"bootstrap system {mac}/run/fleet-x.plist"
        job_read = plistlib.loads(made.encode())
        assert job_read["ProgramArguments"] == ["/nix/store/x-fleet-host", "keep", "run-1"]
        assert job_read["KeepAlive"] == again


def test_what_outlived_a_boot_of_a_mac_is_not_taken_for_open(mac: Path) -> None:
    (mac / "run/open").mkdir(parents=True)
    (mac / "run/open/boot_id").write_text("one\n")
    assert on_mac(mac, "find_open && echo open") == "open\n"
    assert on_mac(mac, "find_open || echo none", boot="two") == "none\n"
