"""What is wrong before any host is asked: exit 2, nothing touched, and the message names the place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.containers.driver import Stage, logins, running

if TYPE_CHECKING:
    from fleet.lab import Lab
    from tests.containers.conftest import MakeLab


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("calm", "still")


FLEET = '[fleet]\nname = "x"\n'
HOST = FLEET + "[hosts.calm]\n"
FILES = {
    "missing": (None, ["fleet.toml"]),
    "empty": (b"", ["fleet.toml", "is empty"]),
    "not UTF-8": (b'[fleet]\nname = "\xff"\n', ["fleet.toml", "UTF-8"]),
    "not TOML": (b"[fleet\n", ["fleet.toml", "line 1"]),
    "misspelt key": (HOST.encode() + b'adress = "x"\n', ["fleet.toml", "hosts.calm", "adress", "address"]),
    "misspelt table": (FLEET.encode() + b"[hostz.calm]\n", ["fleet.toml", "hostz", "hosts"]),
    "two kinds": (
        HOST.encode() + b'[[hosts.calm.checks]]\ntcp = "a:1"\nunit = "b"\n',
        ["hosts.calm", "checks", "tcp and unit", "exactly one"],
    ),
    "no kind": (HOST.encode() + b'[[hosts.calm.checks]]\nname = "a"\n', ["hosts.calm", "checks", "exactly one"]),
    "shell in a name": (FLEET.encode() + b'[hosts."calm; touch owned"]\n', ["calm; touch owned", "letters"]),
    "dollar in a name": (FLEET.encode() + b'[hosts."$(touch owned)"]\n', ["$(touch owned)", "letters"]),
    "option as a name": (FLEET.encode() + b'[hosts."-oProxyCommand=x"]\n', ["-oProxyCommand=x", "letters"]),
}


@pytest.mark.parametrize("name", FILES)
def test_bad_file_is_exit_2_and_names_the_place(stage: Stage, name: str) -> None:
    content, words = FILES[name]
    if content is not None:
        (stage.folder / "fleet.toml").write_bytes(content)
    run = stage.deploy("calm")
    assert (run.code, run.error["kind"], run.hosts) == (2, "config", {})
    for word in words:
        assert word in run.error["message"] + run.error["hint"], run.error
    assert len(run.events) == 1
    plain = stage.fleet("deploy", "calm")
    assert (plain.code, "Traceback" in plain.stderr) == (2, False)
    assert not (stage.folder / "owned").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json", "clam"], ["clam", "calm"]),
        (["--json", "@nobody"], ['tag "nobody"']),
        (["--json", "calm,!calm"], ["calm,!calm"]),
        (["--json"], ["no hosts were named"]),
        (["--json", "--all", "calm"], ["--all"]),
        (["--json", "calm", "--goal", "nonsense"], ["nonsense"]),
        (["--json", "calm", "--closure", "/etc/passwd"], ["/etc/passwd", "store path"]),
        (["--json", "calm", "--closure", "/nix/store/" + "a" * 32 + "-gone"], ["-gone", "store"]),
    ],
)
def test_bad_words_are_exit_2(stage: Stage, arguments: list[str], words: list[str]) -> None:
    stage.toml({"calm": {}, "still": {}})
    old = running(stage.host("calm"))
    run = stage.fleet("deploy", *arguments)
    assert (run.code, run.error["kind"]) == (2, "config")
    for word in words:
        assert word in run.error["message"] + run.error["hint"], run.error
    assert running(stage.host("calm")) == old


def test_state_that_cannot_be_written_is_told_before_any_host_is_asked(stage: Stage) -> None:
    stage.toml({"calm": {}})
    before = logins(stage.host("calm"))
    (stage.home / "state").write_text("a file, no folder")
    run = stage.deploy("calm")
    assert (run.code, run.error["kind"], "XDG_STATE_HOME" in run.error["hint"]) == (2, "state", True)
    assert logins(stage.host("calm")) == before


def test_all_of_no_hosts_is_an_error(stage: Stage) -> None:
    (stage.folder / "fleet.toml").write_text(FLEET)
    run = stage.deploy("--all")
    assert (run.code, run.error["kind"]) == (2, "config")
    assert "fleet.toml" in run.error["message"]


@pytest.mark.parametrize("verb", ["deploy", "rollback"])
def test_several_hosts_and_nobody_to_ask_is_exit_2_before_any_contact(stage: Stage, verb: str) -> None:
    stage.toml({"calm": {}, "still": {}})
    before = logins(stage.host("calm"))
    run = stage.fleet(verb, "--all", "--json")
    assert (run.code, run.error["message"]) == (2, "2 hosts would be changed, and there is no terminal to ask on")
    assert "--yes" in run.error["hint"]
    assert logins(stage.host("calm")) == before
