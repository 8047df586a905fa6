"""`fleet doctor` finds what keeps this machine from deploying, and each finding has a remedy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from fleet import nix as nix_commands
from fleet.cli import run
from fleet.errors import CommandFailedError, ConfigError, StateError
from fleet.inventory import parse
from fleet.library.doctor import LOOKS, Diagnosis, Patient, State, examine, machine, nix, ssh
from fleet.machine import Output
from fleet.machine.local import HERE, LocalMachine
from fleet.state import open_state
from tests.fakes import FakeMachine, runs
from tests.tools import git, new_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

YES = Output(status=0)
SETTINGS = runs(*nix_commands.NIX, "show-config")
MISSING = CommandFailedError(HERE, "cannot run it: No such file or directory")
NIX = (runs("nix", "--version"), Output(status=0, stdout="nix (Nix) 2.18.1\n"))
OK, NOTE, ERROR = State.OK, State.NOTE, State.ERROR


def settings(**values: object) -> Output:
    return Output(status=0, stdout=json.dumps({key: {"value": value} for key, value in values.items()}))


def patient(
    tmp_path: Path, toml: str = "[hosts.web]", *rows: Any, environment: dict[str, str] | None = None
) -> Patient:
    file = tmp_path / "fleet.toml"
    file.write_text(toml)
    return Patient(
        here=FakeMachine(*rows, is_here=True),
        environment=environment or {},
        home=tmp_path,
        file=file,
        inventory=parse(file, toml),
        state=open_state(tmp_path / "state"),
    )


async def all_of(look: AsyncIterator[Diagnosis]) -> list[Diagnosis]:
    found = [diagnosis async for diagnosis in look]
    assert all(one.remedy for one in found if one.state is not OK), "each finding has a remedy"
    assert not any(one.remedy for one in found if one.state is OK)
    return found


async def one_of(look: AsyncIterator[Diagnosis]) -> Diagnosis:
    (found,) = await all_of(look)
    return found


def do(*argv: str, **environment: str) -> None:
    subprocess.run(argv, check=True, env={**os.environ, **environment})


# --- Nix -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "ping", "state", "said"),
    [
        ("nix (Nix) 2.8.0\n", YES, OK, "nix (Nix) 2.8.0"),
        ("nix (Lix, like Nix) 2.93.3\n", YES, OK, "nix (Lix, like Nix) 2.93.3"),
        ("nix (Nix) 2.7.9\n", YES, ERROR, "nix (Nix) 2.7.9 is older than 2.8"),
        ("hello\x1b[31m\n", YES, ERROR, "nix --version says 'hello'"),
        ("nix (Nix) 2.8.0\n", Output(status=1, stderr="a\nerror: cannot connect\n"), ERROR,
         "the store does not answer: error: cannot connect"),
    ],
)  # fmt: skip
async def test_nix_must_be_new_enough_and_answer(
    tmp_path: Path, version: str, ping: Output, state: State, said: str
) -> None:
    rows = ((runs("nix", "--version"), Output(status=0, stdout=version)), (runs(*nix_commands.NIX, "store"), ping))
    assert (await one_of(nix.nix(patient(tmp_path, "[hosts.web]", *rows))))[1:3] == (state, said)


async def test_nix_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    found = await one_of(nix.nix(patient(tmp_path, "[hosts.web]", (runs("nix"), MISSING))))
    assert found == ("nix", ERROR, MISSING.message, nix.GET_NIX)


async def test_without_nix_nothing_is_said_about_builders(tmp_path: Path) -> None:
    assert await all_of(nix.builds(patient(tmp_path, "[hosts.web]", (runs("nix"), MISSING)))) == []


PI = '[hosts.pi]\nsystem = "aarch64-linux"\n[hosts.web]\n'
OWN = {"system": "x86_64-linux", "extra-platforms": ["i686-linux"]}


@pytest.mark.parametrize(
    ("toml", "known", "state", "said"),
    [
        ("[hosts.web]", OWN, OK, "builds for i686-linux, x86_64-linux"),
        (PI, OWN, ERROR, "pi needs aarch64-linux, and nothing here can build that"),
        (PI.replace("[hosts.web]", 'build_on = "target"\n[hosts.web]'), OWN, OK, "builds for i686-linux, x86_64-linux"),
        (PI, OWN | {"extra-platforms": ["aarch64-linux"]}, OK, "builds for aarch64-linux, x86_64-linux"),
        (PI, OWN | {"builders": "ssh://a x86_64-linux ; ssh://b i686-linux,aarch64-linux - 4"}, OK,
         "pi needs aarch64-linux, for which there is a builder"),
        (PI, OWN | {"builders": "@MACHINES"}, OK, "pi needs aarch64-linux, for which there is a builder"),
        (PI, OWN | {"builders": "@/nowhere\n#ssh://b aarch64-linux"}, ERROR,
         "pi needs aarch64-linux, and nothing here can build that"),
    ],
)  # fmt: skip
async def test_hosts_of_other_systems_need_somebody_who_builds_for_them(
    tmp_path: Path, toml: str, known: dict[str, object], state: State, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nix, "BINFMT", tmp_path / "binfmt")
    (tmp_path / "machines").write_text("# none\nssh://c aarch64-linux\n")
    known = {
        key: str(value).replace("MACHINES", str(tmp_path / "machines")) if key == "builders" else value
        for key, value in known.items()
    }
    assert (await one_of(nix.builds(patient(tmp_path, toml, (SETTINGS, settings(**known))))))[1:3] == (state, said)


async def test_emulation_that_nix_does_not_know_of_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nix, "BINFMT", tmp_path / "binfmt")
    (tmp_path / "binfmt").mkdir()
    (tmp_path / "binfmt" / "qemu-aarch64").write_text("enabled\n")
    found = await one_of(nix.builds(patient(tmp_path, PI, (SETTINGS, settings(**OWN)))))
    assert found.said == "pi needs aarch64-linux, which is emulated here, but Nix does not know that"
    assert found.remedy.startswith("extra-platforms = aarch64-linux in nix.conf")


# --- git, with the real one ------------------------------------------------------------------------


async def test_git_must_know_fleet_toml(tmp_path: Path) -> None:
    there = patient(tmp_path)
    there = Patient(**{**vars(there), "here": LocalMachine()})
    assert (await one_of(nix.git(there))).said == "is there"
    git(tmp_path, "init", "-q")
    found = await one_of(nix.git(there))
    assert (found.state, found.remedy) == (ERROR, f"git add {there.file}")
    git(tmp_path, "add", "fleet.toml")
    assert (await one_of(nix.git(there))).said == "knows fleet.toml"


async def test_git_must_be_there_where_the_flake_is_in_git(tmp_path: Path) -> None:
    there = patient(tmp_path, "[hosts.web]", (runs("git"), MISSING))
    assert (await one_of(nix.git(there))).state is NOTE
    (tmp_path / ".git").mkdir()
    assert (await one_of(nix.git(there))).state is ERROR


# --- SSH, with the real agent ----------------------------------------------------------------------


@contextlib.contextmanager
def agent(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Run an agent, while inside. Yields what the environment has then."""
    place = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield {"SSH_AUTH_SOCK": str(place)}
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def make_key(folder: Path, name: str = "id_ed25519") -> Path:
    folder.mkdir(exist_ok=True)
    return new_key(folder / name)


async def test_agent_is_asked_what_it_holds(tmp_path: Path) -> None:
    key = make_key(tmp_path / "elsewhere")
    with agent(tmp_path) as environment:
        there = patient(tmp_path, environment=environment)
        assert (await one_of(ssh.agent(there))).said == "answers, and holds no key"
        assert (await one_of(ssh.keys(there))).state is ERROR
        do("ssh-add", "-q", str(key), **environment)
        assert (await one_of(ssh.agent(there)))[1:3] == (OK, "holds 1 key")
        assert (await one_of(ssh.keys(there)))[1:3] == (OK, "the agent's")
    found = await one_of(ssh.agent(there))
    assert (found.state, found.said) == (ERROR, "does not answer")
    assert (await one_of(ssh.agent(patient(tmp_path)))).state is NOTE


async def test_agent_that_says_nothing_is_waited_for_no_longer_than_it_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "PATIENCE", 0.1)
    silent = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    server = await asyncio.start_unix_server(say_nothing, tmp_path / "silent")
    there = patient(tmp_path, environment={"SSH_AUTH_SOCK": str(tmp_path / "silent")})
    assert (await one_of(ssh.agent(there))).said == "does not answer"
    silent.set()
    server.close()


async def test_key_that_others_may_read_is_told_and_one_that_is_missing(tmp_path: Path) -> None:
    key = make_key(tmp_path / ".ssh")
    assert (await one_of(ssh.keys(patient(tmp_path))))[1:3] == (OK, "~/.ssh/id_ed25519")
    key.chmod(0o644)
    first, _ = await all_of(ssh.keys(patient(tmp_path)))
    assert (first.state, first.remedy) == (NOTE, f"chmod 600 {key}")  # a deployment uses it all the same
    key.unlink()
    only = await one_of(ssh.keys(patient(tmp_path, '[hosts.web]\nidentity_file = "none"')))
    assert (only.state, only.said) == (ERROR, f"{tmp_path}/none is not there, which is the identity_file of web")


async def test_hosts_without_a_host_key_are_told(tmp_path: Path) -> None:
    found = await one_of(ssh.host_keys(patient(tmp_path)))
    assert (found.state, found.remedy) == (NOTE, "fleet trust --all")
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEdy1O4RrRfvmFzGMLzwmP1bs5JEaGBSjPw3YFTCXq7V"
    assert (await one_of(ssh.host_keys(patient(tmp_path, f'[hosts.web]\nhost_key = "{key}"')))).state is OK


# --- the rest --------------------------------------------------------------------------------------


async def test_clock_that_cannot_be_right_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = patient(tmp_path)
    monkeypatch.setattr(machine, "_kernel_clock", lambda: 0)
    assert (await one_of(machine.clock(there))).state is OK
    monkeypatch.setattr(machine, "_kernel_clock", lambda: machine.UNSYNCHRONISED)
    assert (await one_of(machine.clock(there))).state is NOTE
    monkeypatch.setattr(time, "time", lambda: 86_400.0)
    assert (await one_of(machine.clock(there))).state is ERROR


def test_kernel_says_what_it_thinks_of_its_clock() -> None:
    assert machine._kernel_clock() in range(6)


@pytest.mark.parametrize(("free", "state"), [(1 << 20, ERROR), (2 << 30, NOTE), (90 << 30, OK)])
async def test_little_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: State) -> None:
    monkeypatch.setattr(machine, "_free", lambda _: free)
    assert (await one_of(machine.disk(patient(tmp_path)))).state is state


async def test_state_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = patient(tmp_path, environment={"XDG_STATE_HOME": str(tmp_path)})
    assert (await one_of(machine.state(there))).said == f"{tmp_path}/fleet/{there.inventory.name}: 0 runs"  # type: ignore[union-attr]
    (tmp_path / "file").touch()
    within = patient(tmp_path, environment={"XDG_STATE_HOME": str(tmp_path / "file")})
    assert (await one_of(machine.state(within))).said == f"{tmp_path}/file is no folder"
    monkeypatch.setattr(machine, "_free", lambda _: 0)
    assert (await one_of(machine.state(there))).said.startswith("0 B free on the disk of ")

    def broken() -> None:
        raise StateError("no disk")

    monkeypatch.setattr(there.state, "runs", broken)
    assert (await one_of(machine.state(there)))[1:3] == (ERROR, "no disk")


async def test_files_of_secrets_and_metrics_are_looked_at(tmp_path: Path) -> None:
    toml = (
        '[hosts.web]\n[[notify]]\nwebhook = "https://a.org/x"\ntoken_file = "token"\n[[notify]]\nntfy = "https://n.org/t"\n'
        '[metrics]\ntextfile = "none/fleet.prom"'
    )
    hook, ntfy, metrics = await all_of(machine.being_told(patient(tmp_path, toml)))
    assert (hook.state, ntfy.state, metrics.state) == (ERROR, OK, ERROR)
    assert hook.said.startswith("webhook a.org: ")
    (tmp_path / "token").write_text("t")
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "none").mkdir()
    assert {one.state for one in await all_of(machine.being_told(patient(tmp_path, toml)))} == {OK}


async def test_extra_for_slow_links_is_looked_for_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await all_of(machine.slow_links(patient(tmp_path))) == []
    there = patient(tmp_path, '[hosts.pi]\nkind = "pi"')
    assert (await one_of(machine.slow_links(there))).state is OK
    monkeypatch.setattr(machine, "_is_installed", lambda _: False)
    assert (await one_of(machine.slow_links(there))).state is NOTE
    assert (await one_of(machine.lab(there))).state is NOTE


async def test_engine_that_does_not_answer_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise ConfigError("no Docker engine answers", hint="start one")

    monkeypatch.setattr("fleet.lab.engine.connect", none)
    found = await one_of(machine.lab(patient(tmp_path)))
    assert (found.state, found.remedy) == (NOTE, "start one")


async def test_wrong_file_is_told_with_its_first_problem(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    there = Patient(
        here=FakeMachine(), environment={}, home=tmp_path, file=file, problem=ConfigError("a: b\nc: d\ne: f")
    )
    assert (await one_of(machine.inventory(there))).state is NOTE
    file.write_text("")
    assert (await one_of(machine.inventory(there)))[1:3] == (ERROR, "a: b; and 2 more problems")


async def test_look_that_fails_is_an_error_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Patient) -> AsyncIterator[Diagnosis]:
        raise OSError(5, "Input/output error", "/x")
        yield

    monkeypatch.setattr("fleet.library.doctor.LOOKS", (("one", broken), ("clock", machine.clock)))
    first, second = await examine(patient(tmp_path))
    assert (first.what, first.state) == ("one", ERROR)
    assert second.what == "clock"


def test_command_tells_all_and_ends_with_1_where_something_is_an_error(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fleet.toml").write_text("[hosts.web]\naddress = '192.0.2.1'\n")
    monkeypatch.chdir(tmp_path)
    make_key(home / ".ssh")
    assert run(["doctor"]) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert said.splitlines()[0].split()[:3] == ["ok", "versions", "fleet"]
    (home / ".ssh" / "id_ed25519").unlink()
    assert run(["doctor", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert {row["what"] for row in document["findings"]} <= {what for what, _ in LOOKS}
    assert [row["what"] for row in document["findings"] if row["state"] == "error"] == ["keys"]
