"""What `ssh -G` says is asked for once, also over several runs, for as long as it depends on unchanged files alone."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from fleet.machine.kept import FORMAT, Kept, answer
from fleet.machine.openssh import OpenSsh, Question
from tests.sshd import scripts

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.machine.settings import Settings


class Asked:
    """OpenSSH's client, with a count of the questions that it was asked."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._log = tmp_path / "log"
        real = shutil.which("ssh")
        assert real
        folder = scripts(tmp_path / "bin", {"ssh": f'echo "$@" >>{self._log}\nexec {real} "$@"\n'})
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    async def run(self, *names: str, user: str | None = None, port: int | None = None) -> tuple[Settings, int]:
        """What a new run finds out about these hosts: about the last of them, and how often it had to ask."""
        before, openssh = self._count(), OpenSsh()
        found = [await openssh.settings(Question(name, port, user, "root")) for name in names]
        return found[-1], self._count() - before

    def _count(self) -> int:
        return len(self._log.read_text().splitlines()) if self._log.exists() else 0


@pytest.fixture
def asked(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(tmp_path, monkeypatch)


async def test_later_run_asks_nothing(asked: Asked, home: Path) -> None:
    (home / ".ssh/config").write_text("Host a\nPort 7\nCompression no\nUser me\nHost *\nIdentityFile ~/%n\n")
    first, count = await asked.run("a", "b", "a")
    assert count > 1
    assert (first.port, first.user, first.is_compressed) == (7, "me", False)
    assert await asked.run("a", "b", "a") == (first, 0)
    assert (await asked.run("a", user="root"))[1] > 0


@pytest.mark.parametrize(
    ("config", "is_for_all"),
    [
        ("Port 7\n", True),
        ("Host *\nPort 7\n", True),
        ("port=7\nHOST = *\nUser me\n", True),
        ("Host b\nPort 7\n", False),
        ("Host=b\nPort 7\n", False),
        ("Host * !b\nPort 7\n", False),
        ("Match all\nPort 7\n", False),
        ("Port 7\nIdentityFile ~/%n\n", False),
    ],
)
async def test_many_hosts_are_asked_for_once_where_nothing_tells_them_apart(
    asked: Asked, home: Path, config: str, *, is_for_all: bool
) -> None:
    (home / ".ssh/config").write_text(config)
    alone = {name: (await Asked.run(asked, name))[0] for name in ("A.example", "b", "127.0.0.1", "::1")}
    for file in Kept.file().parent.iterdir():
        file.unlink()
    _, first = await asked.run("c")
    last, more = await asked.run(*alone)
    assert (more == 0) == is_for_all
    assert first > 0
    assert last == alone["::1"]
    for name, settings in alone.items():
        assert (await asked.run(name))[0] == settings


async def test_hosts_with_ports_of_their_own_are_asked_for_once_too(asked: Asked, home: Path) -> None:
    (home / ".ssh/config").write_text("Port 7\n")
    found, first = await asked.run("a", port=2201)
    assert (found.port, first > 0) == (2201, True)
    found, more = await asked.run("b", port=2202)
    assert (found.port, found.hostname, more) == (2202, "b", 0)
    assert (await asked.run("c"))[0].port == 7  # of the configuration, where fleet.toml names none


@pytest.mark.parametrize(
    ("config", "file"),
    [
        ("Port 7\n", ".ssh/config"),
        ("Include more\n", ".ssh/more"),
        ("Include ~/.ssh/conf.d/*\n", ".ssh/conf.d/new"),
        ('Include "{home}/a b/x" conf.d/*.conf\n', ".ssh/conf.d/new.conf"),
        ('Include "{home}/a b/x" conf.d/*.conf\n', "a b/x"),
    ],
)
async def test_it_asks_again_when_a_file_has_changed_or_come(asked: Asked, home: Path, config: str, file: str) -> None:
    (home / ".ssh/conf.d").mkdir()
    (home / "a b").mkdir()
    (home / ".ssh/config").write_text(config.format(home=home))
    for count in (3, 0):
        assert (await asked.run("a"))[1] <= count
    (home / file).write_text("Port 8\n")
    found, count = await asked.run("a")
    assert (found.port, count > 0) == (8, True)


@pytest.mark.parametrize(
    "words",
    [
        "Match exec true\nPort 7",
        '  match originalhost a.invalid  exec "test -e /"\nPort 7',
        "CanonicalizeHostname yes",
        "UserKnownHostsFile ${HOME}/x",
        "Include ~/.ssh/*/config",
    ],
)
async def test_what_depends_on_more_than_files_is_for_one_run(asked: Asked, home: Path, words: str) -> None:
    (home / ".ssh/config").write_text(f"{words}\n")
    counts = []
    for _ in range(2):
        _, count = await asked.run("a.invalid", "a.invalid")
        counts.append(count)
    assert counts[1] == counts[0] - 1 > 0  # all but what ssh says where nothing is configured


@pytest.mark.parametrize("words", ["Match host a localnetwork 10.0.0.0/8", "match !exec false", "MATCH LocalNetwork *"])
def test_answer_that_depends_on_the_network_or_a_program_does_not_last(words: str) -> None:
    assert not answer({}, [], ["Port 7\n", f"Host b\n\t{words}\nPort 7\n"]).lasts
    assert answer({}, [], ["Host exec\nUser localnetwork\n"]).lasts


@pytest.mark.parametrize("harm", ["broken", "another format", "writable", "folder"])
async def test_file_that_is_not_to_be_trusted_is_not(asked: Asked, home: Path, harm: str) -> None:
    _, count = await asked.run("a")
    file = Kept.file()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    match harm:
        case "broken":
            file.write_text('{"of": ')
        case "another format":
            file.write_text(file.read_text().replace(f'{{"of": [{FORMAT},', '{"of": [0,'))
        case "writable":
            file.chmod(0o620)
        case "folder":
            file.parent.chmod(0o777)
    assert (await asked.run("a"))[1] == count
