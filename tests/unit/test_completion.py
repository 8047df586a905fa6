"""Real shells complete what fleet.toml and this machine know, and no host is asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.cli import run
from fleet.cli.completion import SHELLS, place
from fleet.files import cache_folder, state_folder
from fleet.host.answers import Generation
from fleet.library.listed import listed, remember_listed
from fleet.model import Closure, HostName
from tests.unit.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

TOML = """
[fleet]
name = "home"
[defaults]
tags = ["managed"]
[hosts.laptop]
kind = "laptop"
address = "127.0.0.1"
port = PORT
tags = ["canary", "prod"]
[hosts.gpu-01]
kind = "gpu"
tags = ["prod"]
[hosts.gpu-02]
[hosts."$(touch PWNED)"]
[hosts.web-1]
tags = ["$(touch PWNED)", "`touch PWNED`", 4]
"""
STARTS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
BEGINS = {
    "bash": "set +H; PS1=; PS2=; bind 'set enable-bracketed-paste off'; source {script}",
    "zsh": "PS1=; unsetopt promptsp banghist; fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D",
    "fish": "function fish_prompt; end; source {script}",
}


@pytest.fixture
def there(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a fleet.toml, where `fleet` is the one of these tests; whoever knocks at a host is heard."""
    folder = tmp_path / "flake"
    folder.mkdir()
    program = tmp_path / "bin" / "fleet"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m fleet "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(folder)
    with socket.create_server(("127.0.0.1", 0)) as server:
        (folder / "fleet.toml").write_text(TOML.replace("PORT", str(server.getsockname()[1])))
        yield folder
        knocked, _, _ = select.select([server], [], [], 0)
        assert not knocked, "a host was contacted"
    assert not list(tmp_path.rglob("PWNED")), "a name was run as a command"


LINES = {
    "fleet stat": "fleet status",
    "fleet deploy lap": "fleet deploy laptop",
    "fleet deploy @ca": "fleet deploy @canary",
    "fleet deploy kind:lap": "fleet deploy kind:laptop",
    "fleet deploy @prod,we": "fleet deploy @prod,web-1",
    "fleet deploy '!lap": "fleet deploy !laptop",
    "fleet rollout pau": "fleet rollout pause",
    "fleet deploy laptop --retry": "fleet deploy laptop --retry-quarantined",
    "fleet rollback gpu-01 --to 4": "fleet rollback gpu-01 --to 41",
    "fleet resume 20261120": "fleet resume 20261120T042211-3fa9c1d2",
    "fleet ssh web": "fleet ssh web-1",
    "fleet show upd": "fleet show update.plan",
}
"""What people type before TAB, and what the line becomes."""


@pytest.mark.parametrize("shell", SHELLS)
def test_shell_completes_what_there_is(shell: str, there: Path, tmp_path: Path) -> None:
    remember_listed("home", {HostName("gpu-01"): generations(7, 41), HostName("gpu-02"): generations(42)})
    (state_folder("home") / "runs" / "20261120T042211-3fa9c1d2").mkdir(parents=True)
    (there / "update.plan").write_text("")
    with terminal_of(shell, tmp_path) as terminal:
        assert {line: typed(terminal, line) for line in LINES} == LINES


@contextlib.contextmanager
def terminal_of(shell: str, tmp_path: Path) -> Iterator[int]:
    """Run the shell on a terminal of its own, with its completion of fleet, while inside."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "site" / "_fleet"
    script.parent.mkdir(exist_ok=True)
    with script.open("w") as file:
        subprocess.run(["fleet", "completion", "show", shell], stdout=file, check=True)
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(STARTS[shell][0], STARTS[shell])
    try:
        begin = BEGINS[shell].format(script=script, folder=script.parent)
        os.write(terminal, f"{begin}; echo be''gun\r".encode())
        read(terminal, r"^begun\r?$")
        yield terminal
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


def typed(terminal: int, line: str) -> str:
    """Type the line and TAB, and return what it has become: what `echo` prints, put around it."""
    os.write(terminal, f"{line}\t\x01echo 'GOT<\x05>'\r".encode())
    return read(terminal, r"^GOT<(.*?) ?>\r?$")


def read(terminal: int, wanted: str) -> str:
    """Read until a line is as wanted, and return its group, if it has one."""
    seen, end = "", time.monotonic() + 60
    while not (found := re.search(wanted, without_escapes(seen), re.MULTILINE)):
        ready, _, _ = select.select([terminal], [], [], max(0, end - time.monotonic()))
        assert ready, f"not seen: {wanted}\n{seen!r}"
        seen += os.read(terminal, 65536).decode(errors="replace")
    return found[1] if found.groups() else found[0]


def generations(*numbers: int) -> tuple[Generation, ...]:
    return tuple(Generation(number=number, created=0, closure=Closure("/nix/store/x")) for number in numbers)


def without_escapes(text: str) -> str:
    return re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>])", "", text)


def possibilities(line: str, *, part: str = "") -> list[str]:
    """What fleet answers to bash, where bash would replace a part of the line."""
    environment = {**os.environ, "_FLEET_COMPLETE": "bash_complete", "FLEET_LINE": line, "FLEET_PART": part}
    done = subprocess.run([sys.executable, "-m", "fleet"], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    return [line.removeprefix("plain,") for line in done.stdout.splitlines() if line]


def test_hosts_tags_and_kinds_are_known_and_nothing_that_a_shell_might_run(there: Path) -> None:
    assert possibilities("fleet deploy ") == [
        *("laptop", "gpu-01", "gpu-02", "web-1", "@canary", "@managed", "@prod"),
        *("kind:gpu", "kind:laptop", "kind:server"),
    ]


def test_part_that_bash_replaces_is_what_is_answered(there: Path) -> None:
    assert possibilities("fleet deploy kind:l", part="l") == ["laptop"]
    assert possibilities("fleet deploy @prod,!gpu-0", part="@prod,!gpu-0") == ["@prod,!gpu-01", "@prod,!gpu-02"]
    assert possibilities("fleet deploy gpu-01,gpu-0", part="gpu-01,gpu-0") == ["gpu-01,gpu-02"]
    assert possibilities("fleet -", part="-")[0].startswith("--")


@pytest.mark.parametrize(
    "toml", ["", "[", "hosts = 3", "[hosts]\na = 4\n[fleet]\nname = [1]", "\xff", "a=" + "[" * 9999]
)
def test_file_that_is_wrong_completes_what_it_can_and_says_nothing(there: Path, toml: str) -> None:
    (there / "fleet.toml").write_text(toml)
    for line in ("fleet deploy x", "fleet resume x", "fleet rollback --to 4", "fleet ssh x"):
        assert possibilities(line, part="x") == []


def test_no_file_completes_no_host(there: Path) -> None:
    (there / "fleet.toml").unlink()
    assert possibilities("fleet deploy ") == []
    assert "deploy" in possibilities("fleet ")


def test_completion_reads_the_file_that_the_line_names(there: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[hosts.elsewhere]\n")
    assert possibilities(f"fleet deploy --file {other} e", part="e") == ["elsewhere"]


COUNTING = """
import sys
from fleet.cli import run
try:
    run(sys.argv[1:])
except SystemExit:
    pass
heavy = "asyncssh asyncio pydantic rich sqlite3 cryptography h11".split()
print([name for name in heavy if name in sys.modules], file=sys.stderr)
"""


def test_completion_loads_nothing_heavy(there: Path) -> None:
    environment = {**os.environ, "_FLEET_COMPLETE": "bash_complete", "FLEET_LINE": "fleet deploy @", "FLEET_PART": "@"}
    done = subprocess.run([sys.executable, "-c", COUNTING], capture_output=True, text=True, check=True, env=environment)
    assert "plain,@prod" in done.stdout
    assert done.stderr.strip() == "[]"


def test_generations_are_remembered_when_they_are_listed(tmp_path: Path, home: Path) -> None:
    world = World(tmp_path, "a", "b")
    remember_listed(world.inventory.name, {HostName("b"): generations(5)})

    async def list_them() -> object:
        async with world.fleet() as fleet:
            return await fleet.generations("a")

    asyncio.run(list_them())
    assert listed(world.inventory.name) == {"a": [1, 2], "b": [5]}


def test_what_is_remembered_of_generations_may_be_anything(home: Path) -> None:
    file = cache_folder("generations") / "home.json"
    file.parent.mkdir(parents=True)
    for text in ("", "[]", "[" * 99999, '{"a": 4}', '{"a": ["x"]}'):
        file.write_text(text)
        assert listed("home") == {}
    remember_listed("home", {HostName("a"): generations(*range(1000))})
    assert len(listed("home")["a"]) == 100


@pytest.mark.parametrize("shell", SHELLS)
def test_one_command_installs_it(shell: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "install", shell]) == 0
    path = place(shell, os.environ)
    assert path.is_relative_to(home)
    assert run(["completion", "show", shell]) == 0
    said = capsys.readouterr()
    assert said.out == path.read_text()
    assert said.err.startswith(f"wrote {path}\n")
    assert path.stat().st_mode & 0o777 == 0o644
    assert [file for file in home.rglob("*") if file.is_file()] == [path], "no file of the person is touched"


def test_shell_is_the_one_that_the_person_uses(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert run(["completion", "install"]) == 0
    assert (home / ".config" / "fish" / "completions" / "fleet.fish").exists()
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert run(["completion", "install"]) == 2


def test_place_that_cannot_be_written_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / ".config").write_text("a file")
    assert run(["completion", "install", "fish"]) == 1
    assert "cannot be written: " in capsys.readouterr().err


def test_profiles_are_completed_and_hosts_without_a_system_are_not(there: Path) -> None:
    (there / "fleet.toml").write_text(
        "[hosts.web]\ntags = ['prod']\nprofiles.ann = {}\n[hosts.desk]\ndriver = 'none'\nkind = 'laptop'\n"
        "[hosts.desk.profiles.bob]\ntags = ['home']\n[hosts.odd]\nprofiles = 3\n"
    )
    names = ["web", "web.ann", "desk.bob", "odd"]
    assert possibilities("fleet deploy ") == [*names, "@home", "@prod", "kind:laptop", "kind:server"]
    assert possibilities("fleet ssh ") == names
