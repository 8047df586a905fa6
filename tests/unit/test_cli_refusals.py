"""What the command line refuses before any host is asked: exit 2, one message, and the last event for scripts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fleet.cli import run, session
from fleet.cli.questions import Consent
from fleet.errors import ConfigError
from fleet.inventory import load
from fleet.model import HostName, RunId
from fleet.state import RunRecord
from tests.unit.world import World

if TYPE_CHECKING:
    from fleet.inventory import Inventory
    from tests.unit.conftest import CommandLine

TOML = """
[fleet]
name = "home"
[hosts.a]
tags = ["prod"]
[hosts.b]
sudo = "password"
"""


@dataclass
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> dict[str, Any]:
        """The last event."""
        last: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        assert last["event"] == "run_finished"
        return last


Call = Callable[..., Said]


@pytest.fixture
def call(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command line in a folder with a fleet.toml."""
    (home / "fleet.toml").write_text(TOML)
    monkeypatch.chdir(home)

    def call(*arguments: str) -> Said:
        code = run(arguments)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


@pytest.mark.parametrize("command", [["plan", "a"], ["ledger", "export"], ["image", "build", "a"]])
@pytest.mark.parametrize(
    ("place", "why"),
    [("gone/x", "there is no folder gone"), (".", "no file"), ("/dev/full", "no file"), ("fleet.toml/x", "no folder")],
)
def test_a_place_that_takes_no_file_is_refused_before_anything_is_made_for_it(
    call: Call, monkeypatch: pytest.MonkeyPatch, command: list[str], place: str, why: str
) -> None:
    monkeypatch.setattr(session, "open_inventory", None)  # nothing is read for it
    said = call(*command, "-o", place)
    assert (said.code, said.out) == (2, "")
    assert why in said.err
    assert Path("/dev/full").is_char_device()


def test_a_folder_that_one_may_not_write_to_is_told_before_too(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests run as root, who may
    assert "you may not write to" in call("plan", "a", "-o", "x.plan").err


@pytest.fixture
def inventory(home: Path) -> Inventory:
    (home / "fleet.toml").write_text(TOML)
    return load(home / "fleet.toml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["deploy"], "no hosts were named"),
        (["push"], "no hosts were named"),
        (["rollback"], "no hosts were named"),
        (["deploy", "--all", "a"], "--all and a selector"),
        (["deploy", "@prd", "--yes"], "@prod"),
        (["deploy", "--all"], "2 hosts would be changed"),
        (["rollback", "--all"], "2 hosts would be changed"),
        (["deploy", "b"], "sudo needs a password"),
        (["deploy", "a", "--file", "nowhere.toml"], "nowhere.toml: there is no such file"),
    ],
)
def test_refusal_is_exit_2_with_a_message_and_a_last_event(call: Call, arguments: list[str], message: str) -> None:
    said = call(*arguments)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert "Traceback" not in said.err
    said = call(*arguments, "--json")
    assert said.code == 2
    assert (said.last["exit_code"], said.last["hosts"], said.last["error"]["kind"]) == (2, [], "config")
    assert message in json.dumps(said.last["error"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["deploi"], "Did you mean deploy?"),
        (["zzz"], "No such command 'zzz'"),
        (["deploy", "a", "--goal", "boot-it"], "'boot-it' is not one of"),
        (["deploy", "a", "--no-such-flag"], "No such option"),
        (["ssh"], "Missing argument 'HOST'"),
        (["trust"], "no hosts were named"),
        (["lab", "power", "a", "maybe"], "'maybe' is not one of"),
    ],
)
def test_words_that_nobody_knows_are_exit_2(call: Call, arguments: list[str], message: str) -> None:
    said = call(*arguments)
    assert (said.code, said.out) == (2, "")
    assert message in said.err


def test_unknown_flag_of_a_changing_command_still_has_a_last_event(call: Call) -> None:
    said = call("deploy", "a", "--no-such-flag", "--json")
    assert (said.code, said.last["exit_code"], said.last["error"]["kind"]) == (2, 2, "config")


@pytest.mark.parametrize("command", ["status", "health", "generations", "plan", "diff", "build", "check"])
def test_reading_command_refuses_unknown_hosts_too(call: Call, command: str) -> None:
    said = call(command, "nobody")
    assert said.code == 2
    assert "nobody" in said.err


def test_command_for_one_host_is_for_one_host(call: Call) -> None:
    said = call("ssh", "*")
    assert (said.code, "names 2 hosts" in said.err) == (2, True)


def test_broken_file_is_told_without_a_traceback(call: Call, home: Path) -> None:
    (home / "fleet.toml").write_text("[fleet]\nnaem = 'x'\n")
    said = call("status")
    assert said.code == 2
    assert "naem" in said.err
    with pytest.raises(ConfigError):
        run(["--debug", "status"])


def test_nearest_file_is_found_from_below(home: Path, monkeypatch: pytest.MonkeyPatch, inventory: Inventory) -> None:
    below = home / "one" / "two"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert session.open_inventory(None).path == home / "fleet.toml"
    monkeypatch.chdir(home)
    assert session.open_inventory(Path("fleet.toml")).path == home / "fleet.toml"


def test_no_file_anywhere_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        session.open_inventory(None)
    assert caught.value.message == f"there is no fleet.toml in {tmp_path}, nor in a folder above it"
    assert "fleet init" in caught.value.hint
    assert "--file" in caught.value.hint


def test_changing_needs_names_and_looking_does_not(inventory: Inventory) -> None:
    assert [one.name for one in session.choose_or_all(inventory, [])] == ["a", "b"]
    assert [one.name for one in session.choose(inventory, [], everything=True)] == ["a", "b"]
    assert [one.name for one in session.choose(inventory, ["@prod"], everything=False)] == ["a"]


@pytest.mark.parametrize(
    ("count", "consent", "fine"),
    [
        (1, Consent(), True),
        (2, Consent(yes=True), True),
        (2, Consent(), False),
        (1, Consent(ask=True), False),
        (0, Consent(ask=True), True),
    ],
)
def test_consent_is_needed_for_several_hosts(count: int, consent: Consent, fine: bool) -> None:  # noqa: FBT001
    if fine:
        consent.require_terminal(count)
    else:
        with pytest.raises(ConfigError) as caught:
            consent.require_terminal(count)
        assert "--yes" in caught.value.hint


def test_sudo_password_comes_from_the_environment_where_nobody_can_be_asked(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, "a", more="[hosts.b]\nsudo = 'password'")
    command_line(world, "status", "a")
    assert world.given[-1].sudo_passwords == {}
    monkeypatch.setenv("FLEET_SUDO_PASSWORD", "hunter2")
    command_line(world, "status")
    assert list(world.given[-1].sudo_passwords) == [HostName("b")]
    assert "hunter2" not in repr(world.given[-1])
    assert "FLEET_SUDO_PASSWORD" not in os.environ  # children inherit that


@pytest.mark.parametrize("text", ["hunter2\nrm -rf /", "hunter2\r"])
def test_sudo_password_of_two_lines_is_refused_before_anything(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    world = World(tmp_path, "a", more="[hosts.b]\nsudo = 'password'")
    monkeypatch.setenv("FLEET_SUDO_PASSWORD", text)
    told = command_line(world, "deploy", "--all", "--yes")
    assert (told.code, world.given) == (2, [])
    assert "line break" in told.err
    assert "hunter2" not in told.err + told.out


def test_sudo_password_is_asked_for_once(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def prompt(text: str, **_: object) -> str:
        asked.append(text)
        return "hunter2"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.prompt", prompt)
    world = World(tmp_path, "x", "y", more="sudo = 'password'")
    command_line(world, "status")
    assert asked == ["sudo password for x, y"]
    (logins,) = world.given
    assert {name: secret.reveal() for name, secret in logins.sudo_passwords.items()} == dict.fromkeys("xy", "hunter2")


REPORTING = [
    ("deploy", "a"), ("push", "a"), ("rollback", "a"), ("resume",), ("apply", "x"), ("deliver", "nobody"),
    ("reboot", "a"), ("rehearse", "nobody"), ("pins", "update", "x", "--canary", "nobody"), ("rollout", "continue"),
]  # fmt: skip


@pytest.mark.parametrize("words", REPORTING, ids=" ".join)
def test_command_that_carries_out_a_run_has_a_last_event_whatever_happens(call: Call, words: tuple[str, ...]) -> None:
    for more in ((), ("--no-such-flag",)):
        said = call(*words, *more, "--json", "--file", "nowhere.toml")
        assert (said.code, said.last["exit_code"], len(said.out.splitlines())) == (2, 2, 1)
        assert call(*words, *more, "--file", "nowhere.toml").out == ""


@pytest.mark.parametrize(
    "words",
    [
        ("secrets", "push", "nobody"), ("secrets", "push", "deploy"), ("status", "deploy"),
        ("exec", "reboot", "--", "x"), ("runs", "show", "resume"), ("pins", "check", "update"), ("plan", "push"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_other_command_has_that_event_whatever_its_words_are(call: Call, words: tuple[str, ...]) -> None:
    head, *tail = words
    said = call(head, *tail[:1], "--json", *tail[1:])
    assert (said.code, said.out) == (2, "")


def test_host_that_is_called_like_a_command_is_a_host(call: Call) -> None:
    assert call("deploy", "--", "--json").out == ""


def test_update_of_a_pin_that_has_nothing_newer_has_a_last_event(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = SimpleNamespace(revision="1f3c", changed=None)
    same = SimpleNamespace(before=b"", after=b"", old=pin, new=pin)
    monkeypatch.setattr("fleet.cli.pins._updated", lambda *_: same)
    said = call("pins", "update", "nixpkgs", "--canary", "a", "--json", "--yes")
    assert (said.code, said.last["exit_code"], said.last["error"]) == (0, 0, None)
    assert call("pins", "update", "nixpkgs", "--canary", "a", "--yes").out == ""


def test_rollout_that_goes_on_elsewhere_has_a_last_event(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, "a")
    monkeypatch.setattr("fleet.cli.rollout._find", lambda *_, **__: (RunRecord(id=RunId("r")), True))
    said = command_line(world, "rollout", "continue", "--json")
    (last,) = map(json.loads, said.out.splitlines())
    assert (said.code, last["event"], last["exit_code"], last["run"]) == (0, "run_finished", 0, "")
