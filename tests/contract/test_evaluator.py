"""The service that evaluates for a server: what it runs, what it refuses, and what the server makes of its end."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fleet
from fleet import nix
from fleet.errors import CommandFailedError, ConfigError
from fleet.inventory import parse
from fleet.library.served import EVALUATOR, NATIVE, SERVED, STRICT, evaluates, nix_options
from fleet.library.tools import LocalNix
from fleet.machine import Command
from fleet.machine.local import LocalMachine
from fleet.model import HostName
from fleet.serve.evaluator import LARGEST, answer, refusal
from fleet.steps.evaluate import evaluate
from tests.unit.builders import host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OURS = str(Path(fleet.__file__).parent.parent)
FLAKE = """{
  outputs = _: {
    good = derivation { name = "nixos-system-good-1"; builder = "/bin/sh"; system = "x86_64-linux"; };
    bad = throw "no such thing";
    long = builtins.foldl' (a: b: a + b) 0 (builtins.genList (n: n) 100000000);
  };
}
"""
USUAL = nix.evaluate("/etc/fleet", "good", {HostName("a"): ()}).argv


@asynccontextmanager
async def service(folder: Path, *argv: str) -> AsyncIterator[Path]:
    """A socket like that of the unit: each connection is stdin and stdout of a process of its own."""
    socket = folder / "evaluate.sock"
    argv = argv or (sys.executable, "-m", "fleet", "serve", "--evaluate")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": OURS}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, env=environment)
        out, _ = await process.communicate(await reader.readline())
        writer.write(out)
        writer.close()

    async with await asyncio.start_unix_server(connected, socket, limit=1 << 21):
        yield socket


@pytest.fixture
def flake(tmp_path: Path) -> str:
    folder = tmp_path / "flake"
    folder.mkdir()
    (folder / "flake.nix").write_text(FLAKE)
    return f"path:{folder}"


@pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
async def test_hosts_are_evaluated_by_the_service_and_by_nobody_else(tmp_path: Path, flake: str) -> None:
    async with service(tmp_path) as socket:
        here = LocalNix(STRICT, evaluates(LocalMachine({"PATH": "/nonexistent"}), {EVALUATOR: str(socket)}))
        found = await evaluate(here, flake, [host("good", attr=("good",))], emit=lambda _: None)
        assert found.found[HostName("good")].closure.endswith("-nixos-system-good-1")
        found = await evaluate(here, flake, [host("bad", attr=("bad",))], emit=lambda _: None)
        assert "no such thing" in "\n".join(found.failed[HostName("bad")].said)


async def test_an_evaluation_that_takes_too_much_is_ended_and_told(tmp_path: Path) -> None:
    async with service(tmp_path, "sh", "-c", 'read -r _; echo \'{"line": "evaluating"}\'; kill -9 $$') as socket:
        here = evaluates(LocalMachine(), {EVALUATOR: str(socket)})
        said: list[str] = []
        with pytest.raises(CommandFailedError, match="more memory or time than it may have"):
            await here.run(Command(argv=USUAL, timeout=9, root=False), on_line=said.append)
        assert said == ["evaluating"]
        found = await evaluate(here, "/etc/fleet", [host("a"), host("b")], emit=lambda _: None)
        assert len(found.failed) == 2
        assert all("more memory or time" in error.message for error in found.failed.values())


@pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
async def test_an_evaluation_that_wants_all_memory_gets_what_the_service_has(tmp_path: Path, flake: str) -> None:
    limited = f"ulimit -v 1500000; exec {sys.executable} -m fleet serve --evaluate"
    async with service(tmp_path, "sh", "-c", limited) as socket:
        here = evaluates(LocalMachine(), {EVALUATOR: str(socket)})
        found = await evaluate(here, flake, [host("a", attr=("long",))], emit=lambda _: None)
        assert found.failed.keys() == {"a"}
        found = await evaluate(here, flake, [host("good", attr=("good",))], emit=lambda _: None)
        assert found.found.keys() == {"good"}


@pytest.mark.parametrize("said", ["[]", "nonsense", '{"status": "x"}', ""])
async def test_a_service_that_says_anything_is_an_error_and_no_more(tmp_path: Path, said: str) -> None:
    async with service(tmp_path, "sh", "-c", f"read -r _; echo '{said}'") as socket:
        here = evaluates(LocalMachine(), {EVALUATOR: str(socket)})
        with pytest.raises(CommandFailedError, match="the service that evaluates"):
            await here.run(Command(argv=USUAL, timeout=9, root=False))


async def test_a_service_that_is_not_there_is_told(tmp_path: Path) -> None:
    here = evaluates(LocalMachine(), {EVALUATOR: str(tmp_path / "nowhere")})
    with pytest.raises(CommandFailedError, match="cannot be reached"):
        await here.run(Command(argv=USUAL, timeout=9, root=False))
    assert (await here.run(Command(argv=("true",), timeout=9, root=False))).status == 0


def test_what_fleet_evaluates_is_run() -> None:
    assert refusal(USUAL) == ""
    options = {"cores": "2", **STRICT}
    assert refusal(nix.with_options(Command(argv=USUAL, timeout=9, root=False), options).argv) == ""
    assert refusal(nix.ends("git+file:///x", "good", {HostName("a"): ()}).argv) == ""


def with_option(name: str, value: str) -> tuple[str, ...]:
    return (*USUAL, "--option", name, value)


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("sh", "-c", "id"),
        ("nix",),
        ("nix", "run", "/x"),
        ("nix", "build", "/x", "--option", "pure-eval", "true"),
        ("nix", "eval", "--option", "pure-eval", "true", "--expr", "1"),
        (*USUAL, "--impure"),
        (*USUAL, "--expr", "1"),
        (*USUAL, "--file", "/etc/passwd"),
        (*USUAL, "--store", "ssh://evil"),
        (*USUAL, "--eval-store", "/tmp/x"),
        (*USUAL, "--write-to", "/tmp/x"),
        (*USUAL, "--override-input", "nixpkgs", "/x"),
        (*USUAL, "/another"),
        ("nix", "eval", "--option", "pure-eval", "true", "--plugin-files"),
        with_option("pure-eval", "false"),
        with_option("accept-flake-config", "true"),
        with_option("--impure", ""),
        with_option("store", "ssh://evil"),
        with_option("extra-experimental-features", "x"),
        ("nix", "eval", "--extra-experimental-features", "ca-derivations", "/x", "--option", "pure-eval", "true"),
        ("nix", "eval", "file:///x.nix#a", "--option", "pure-eval", "true"),
        ("nix", "eval", "/x#a"),
        *(with_option(name, "x") for name in NATIVE),
        *(with_option(f"extra-{name}", "x") for name in NATIVE),
    ],
)
async def test_nothing_else_is_run(argv: tuple[str, ...]) -> None:
    out = io.BytesIO()
    assert await answer(io.BytesIO(json.dumps(argv).encode() + b"\n"), out, None) == 1
    told = json.loads(out.getvalue())
    assert told["status"] == 1
    assert told["stderr"].startswith("error: ")


@pytest.mark.parametrize("sent", [b"", b"\n", b"{}\n", b"[1,2]\n", b"[" * 100_000, b'["nix"' + b" " * LARGEST])
async def test_what_is_no_command_is_refused(sent: bytes) -> None:
    out = io.BytesIO()
    assert await answer(io.BytesIO(sent), out, None) == 1
    assert json.loads(out.getvalue())["status"] == 1


@pytest.mark.parametrize("name", ["post-build-hook", "plugin-files", "builders", "extra-plugin-files", "diff-hook"])
def test_a_server_takes_no_option_that_runs_code_from_a_repository(name: str) -> None:
    text = f'[fleet.nix_options]\n{name} = "/x"\n[hosts.a]\n'
    found = parse(Path("/fleet/fleet.toml"), text)
    with pytest.raises(ConfigError, match=name):
        nix_options(found, {SERVED: "1"})
    assert nix_options(found, {}) == {name: "/x"}


def test_a_server_takes_other_options_and_no_settings_of_flakes() -> None:
    text = "[fleet.nix_options]\ncores = 2\n[hosts.a]\n"
    found = parse(Path("/fleet/fleet.toml"), text)
    assert nix_options(found, {SERVED: "1"}) == {"cores": "2", **STRICT}
