"""services.fleet.serve: who does what there, within which limits; and how a branch is followed."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from fleet.cli.parse import complaint
from tests.nixos_modules import ROOT, complaints, configured

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = ROOT / "modules" / "lib" / "follow-branch.sh"
MODULE = ("serve",)
USUAL = 'enable = true; package = pkgs.nix; source.remote = "git@forge.lan:fleet.git";'
nix_is_here = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")


def served(settings: str = USUAL, *, more: str = "") -> str:
    return f"{{ pkgs, ... }}: {{ services.fleet.serve = {{ {settings} }}; {more} }}"


def unit(name: str, settings: str = USUAL, kind: str = "services") -> Any:
    return configured(MODULE, served(settings), f'config.systemd.{kind}."{name}"')


@nix_is_here
def test_server_runs_as_nobody_else_and_what_agents_have_begun_goes_on() -> None:
    assert complaints(MODULE, served()) == []
    found = unit("fleet-serve")
    service = found["serviceConfig"]
    command = service["ExecStart"].removeprefix("/usr/bin/")
    assert complaint(command) is None
    assert "--file /var/lib/fleet-source/current/fleet.toml" in command
    assert (service["User"], service["KillMode"], service["StateDirectoryMode"]) == ("fleet-serve", "process", "0700")
    assert (service["NoNewPrivileges"], service["CapabilityBoundingSet"], service["ProtectSystem"]) == (
        True,
        "",
        "strict",
    )
    assert service["ReadOnlyPaths"] == ["-/var/lib/fleet-source"]
    assert found["environment"]["FLEET_EVALUATOR"] == "/run/fleet-evaluate.sock"
    assert found["environment"]["FLEET_SERVED"] == "1"


@nix_is_here
def test_evaluations_have_another_user_without_logins_and_limits() -> None:
    socket = unit("fleet-evaluate", kind="sockets")["socketConfig"]
    assert (socket["SocketUser"], socket["SocketMode"], socket["Accept"]) == ("fleet-serve", "0600", True)
    service = unit("fleet-evaluate@", f'{USUAL} evaluation = {{ memory = "2G"; time = "90s"; }};')["serviceConfig"]
    assert (service["User"], service["MemoryMax"], service["RuntimeMaxSec"]) == ("fleet-evaluate", "2G", "90s")
    assert (service["StandardInput"], service["StandardOutput"]) == ("socket", "socket")
    assert service["InaccessiblePaths"] == "-/var/lib/fleet-serve"
    assert complaint(service["ExecStart"].removeprefix("/usr/bin/")) is None
    assert "StateDirectory" not in service


@nix_is_here
def test_late_delivery_and_certificates_are_there_if_they_are_asked_for() -> None:
    names = "builtins.attrNames config.systemd.services"
    assert "fleet-serve-deliver" not in configured(MODULE, served(), names)
    settings = f'{USUAL} deliver = true; listen = "[::]:443"; certificate = "/etc/tls/c.pem"; key = "/etc/tls/k.pem";'
    delivers = unit("fleet-serve-deliver", settings)
    assert not delivers["restartIfChanged"]  # a switch of this very machine would wait for what carries it out
    path = configured(MODULE, served(settings), "map (p: p.name) config.systemd.services.fleet-serve-deliver.path")
    assert {"nix", "bash", "openssh"} <= set(path)
    deliver = delivers["serviceConfig"]["ExecStart"]
    assert complaint(deliver.removeprefix("/usr/bin/")) is None
    service = unit("fleet-serve", settings)["serviceConfig"]
    assert "--certificate %d/certificate --key %d/key" in service["ExecStart"]
    assert service["LoadCredential"] == ["certificate:/etc/tls/c.pem", "key:/etc/tls/k.pem"]


@nix_is_here
def test_without_a_branch_a_file_is_served() -> None:
    settings = 'enable = true; package = pkgs.nix; file = "/etc/fleet/fleet.toml"; ask = false;'
    assert complaints(MODULE, served(settings)) == []
    assert "--file /etc/fleet/fleet.toml" in unit("fleet-serve", settings)["serviceConfig"]["ExecStart"]
    assert "--no-ask" in unit("fleet-serve", settings)["serviceConfig"]["ExecStart"]
    names = configured(MODULE, served(settings), "builtins.attrNames config.systemd.services")
    assert "fleet-serve-source" not in names


@nix_is_here
@pytest.mark.parametrize(
    ("settings", "more", "words"),
    [
        ("enable = true; package = pkgs.nix;", "", "either file or source.remote"),
        (f'{USUAL} file = "/x";', "", "either file or source.remote"),
        ('enable = true; package = pkgs.nix; file = "fleet.toml";', "", "has to begin with /"),
        (f'{USUAL} key = "/x";', "", "belong together"),
        (USUAL, 'nix.settings.trusted-users = [ "fleet-evaluate" ];', "take it out"),
        (USUAL, 'nix.settings.trusted-users = [ "*" ];', "take it out"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: str, more: str, words: str) -> None:
    assert words in " ".join(complaints(MODULE, served(settings, more=more)))


class Forge:
    """A repository elsewhere, and what follows a branch of it."""

    def __init__(self, folder: Path) -> None:
        self.work = folder / "work"
        self.state = folder / "state"
        self.state.mkdir()
        self.git("init", "-q", "-b", "main", str(self.work), at=folder)

    def git(self, *words: str, at: Path | None = None) -> str:
        known = {
            "GIT_AUTHOR_NAME": "ann",
            "GIT_AUTHOR_EMAIL": "a@x",
            "GIT_COMMITTER_NAME": "ann",
            "GIT_COMMITTER_EMAIL": "a@x",
        }
        ran = subprocess.run(
            ["git", *words],
            cwd=at or self.work,
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, **known},
        )
        return ran.stdout.strip()

    def commit(self, text: str) -> str:
        (self.work / "fleet.toml").write_text(text)
        self.git("add", "fleet.toml")
        self.git("commit", "-q", "-m", text)
        return self.git("rev-parse", "HEAD")

    def follow(self, **changes: str) -> subprocess.CompletedProcess[str]:
        told = {"STATE_DIRECTORY": str(self.state), "REMOTE": str(self.work), "BRANCH": "main", **changes}
        return subprocess.run(
            ["sh", str(SCRIPT)], capture_output=True, text=True, check=False, env={**os.environ, **told}
        )

    @property
    def current(self) -> str:
        return (self.state / "current" / "fleet.toml").read_text()


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


def test_a_branch_is_followed_and_older_commits_stay_as_they_are_for_a_while(forge: Forge) -> None:
    commits = []
    for number in range(8):
        commits.append(forge.commit(f"# {number}\n"))
        ran = forge.follow()
        assert ran.returncode == 0, ran.stderr
        assert forge.current == f"# {number}\n"
        assert (forge.state / "current").resolve().name == commits[-1]
        assert forge.follow().returncode == 0
    folders = {place.name for place in (forge.state / "commits").iterdir() if place.is_dir()}
    assert folders == set(commits[-5:])
    assert (forge.state / "commits" / commits[-2] / "fleet.toml").read_text() == "# 6\n"
    assert forge.git("status", "--porcelain", at=forge.state / "current") == ""


def test_other_branches_can_be_planned_and_are_not_checked_out(forge: Forge) -> None:
    forge.commit("# served\n")
    forge.git("checkout", "-q", "-b", "proposal")
    proposed = forge.commit("# proposed\n")
    forge.git("checkout", "-q", "main")
    for _ in range(2):
        assert forge.follow().returncode == 0
        assert forge.current == "# served\n"
        known = forge.git("rev-parse", "--verify", "all/proposal", at=forge.state / "current")
        assert known == proposed
    forge.git("branch", "-qD", "proposal")
    assert forge.follow().returncode == 0
    assert forge.git("branch", "--all", "--list", "*proposal", at=forge.state / "current") == ""


def test_a_history_that_was_rewritten_is_not_followed(forge: Forge) -> None:
    forge.commit("# first\n")
    forge.commit("# second\n")
    assert forge.follow().returncode == 0
    forge.git("reset", "-q", "--hard", "HEAD~1")
    forge.commit("# another second\n")
    ran = forge.follow()
    assert ran.returncode != 0
    assert "its history was rewritten" in ran.stderr
    assert forge.current == "# second\n"


def test_a_checkout_that_was_cut_off_is_made_anew(forge: Forge) -> None:
    commit = forge.commit("# whole\n")
    assert forge.follow().returncode == 0
    (forge.state / "commits" / f"{commit}.whole").unlink()
    (forge.state / "commits" / commit / "fleet.toml").write_text("# ha")
    assert forge.follow().returncode == 0
    assert forge.current == "# whole\n"


@pytest.mark.parametrize(
    "changes", [{"BRANCH": "nothing"}, {"REMOTE": "/nowhere"}, {"REMOTE": "--upload-pack=touch /tmp/x"}]
)
def test_a_branch_that_is_not_there_leaves_all_as_it_is(forge: Forge, changes: dict[str, str]) -> None:
    forge.commit("# first\n")
    assert forge.follow().returncode == 0
    assert forge.follow(**changes).returncode != 0
    assert forge.current == "# first\n"
