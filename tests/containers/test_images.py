"""Images of hosts and packages are made without Docker, and Docker runs them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.cli import run
from tests.sshd_real import keygen, sshd

if TYPE_CHECKING:
    from collections.abc import Iterator

FLAKE = """
{
  outputs = { self }:
    let
      busybox = "${builtins.path { path = ./bin; name = "tools"; }}/busybox";
      made = name: script: derivation {
        inherit name; system = "x86_64-linux"; builder = busybox;
        args = [ "sh" "-euc" "bb=${busybox}; $bb mkdir -p $out/bin; ${script}" ];
      };
      library = made "library-1.0" "echo from the library > $out/bin/text";
      hello = made "hello-2.12" ''
        printf '#!%s sh\\n%s cat ${library}/bin/text; echo "hello $1"\\n' $bb $bb > $out/bin/hello
        printf '#!%s sh\\n' $bb > $out/bin/other; $bb chmod +x $out/bin/hello $out/bin/other
      '';
      system = made "nixos-system-web-1" ''
        printf '#!%s sh\\necho "$container booted"; %s cat /nix-path-registration\\n' $bb $bb > $out/init
        $bb chmod +x $out/init
      '';
    in
    {
      packages.x86_64-linux = { inherit hello;
        later = made "later-2.13" ''
          printf '#!%s sh\\n%s cat ${library}/bin/text; echo "later $1"\\n' $bb $bb > $out/bin/later
          $bb chmod +x $out/bin/later
        ''; broken = made "broken-1" "exit 3"; };
      nixosConfigurations.web.config.system.build.toplevel = system;
      nixosConfigurations.bare.config.system.build.toplevel = library;
    };
}
"""
TOML = """
[fleet]
name = "images"
flake = "path:."
[hosts.web]
[hosts.bare]
"""


def sh(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded() -> set[str]:
    return set(sh("docker", "images", "--no-trunc", "--quiet").split())


@pytest.fixture(scope="module")
def folder(lab_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("images")
    (folder / "bin").mkdir()
    argv = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "cat", lab_image, "/usr/bin/busybox"]
    program = folder / "bin" / "busybox"
    program.write_bytes(subprocess.run(argv, capture_output=True, check=True).stdout)
    program.chmod(0o755)
    (folder / "flake.nix").write_text(FLAKE)
    (folder / "fleet.toml").write_text(TOML)
    before = loaded()
    yield folder
    for image in loaded() - before:
        sh("docker", "rmi", "--force", image)


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def fleet(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, object]:
    assert run(["image", *argv, "--json"]) == 0, capsys.readouterr().err
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def started(image: object, *argv: str) -> str:
    return sh("docker", "run", "--rm", "--network", "none", str(image), *argv)


def test_an_image_of_a_package_is_the_same_bytes_again_and_runs(capsys: pytest.CaptureFixture[str]) -> None:
    first = fleet(capsys, "build", "hello", "-o", "one.tar")
    second = fleet(capsys, "build", "hello", "-o", "two.tar")
    assert first | {"file": "two.tar"} == second
    assert Path("one.tar").read_bytes() == Path("two.tar").read_bytes()
    sh("docker", "load", "--input", "one.tar")
    assert started(first["reference"], "you") == "from the library\nhello you\n"
    assert (
        sh("docker", "image", "inspect", "--format", "{{.Id}}", str(first["reference"])).strip()
        == (first["configuration"])
    )


def test_loading_sends_an_image_once(capsys: pytest.CaptureFixture[str]) -> None:
    first = fleet(capsys, "load", "hello", "--program", "other")
    assert (first["engine"], first["was_there"]) == ("docker", False)
    assert started(first["reference"]) == ""
    assert fleet(capsys, "load", "hello", "--program", "other")["was_there"]


def test_layers_that_the_engine_has_are_not_sent(capsys: pytest.CaptureFixture[str]) -> None:
    fleet(capsys, "load", "hello")
    made = fleet(capsys, "load", "later")
    assert isinstance(made["sent"], int)
    assert isinstance(made["size"], int)
    assert 0 < made["sent"] < made["size"] / 10
    assert started(made["reference"], "you") == "from the library\nlater you\n"


def test_an_image_of_a_host_boots_by_its_init_and_has_what_its_nix_registers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = fleet(capsys, "load", "web")
    first, *lines = started(made["reference"]).splitlines()
    assert first == "oci booted"
    top = str(made["reference"]).removeprefix("web:")
    closure = sorted(line for line in lines if line.startswith(f"/nix/store/{top}"))
    assert len(closure) == 1
    registered = sh("nix-store", "--dump-db", *sh("nix-store", "--query", "--requisites", closure[0]).split())
    known = [
        line for line in registered.splitlines() if line and not line.endswith(".drv")
    ]  # an image has no derivations
    assert sorted(line for line in lines if line) == sorted(known)


def test_an_image_goes_to_the_engine_of_a_host(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The host is this machine, by a real sshd: only here is a Docker."""

    async def scenario() -> dict[str, object]:
        key = keygen(tmp_path / "key")
        async with sshd(tmp_path / "sshd") as server:
            server.allow(key)
            text = f"""{TOML}
[hosts.docker-1]
address = "127.0.0.1"
port = {server.port}
host_key = "{server.host_key}"
identity_file = "{tmp_path}/key"
"""
            await asyncio.to_thread(Path("there.toml").write_text, text)
            argv = ("load", "hello", "--program", "hello", "--on", "docker-1", "--file", "there.toml")
            made = await asyncio.to_thread(fleet, capsys, *argv)
            assert await asyncio.to_thread(fleet, capsys, *argv) == made | {"was_there": True, "sent": 0}
            return made

    made = asyncio.run(scenario())
    assert (made["host"], made["engine"]) == ("docker-1", "docker")
    assert started(made["reference"], "host") == "from the library\nhello host\n"


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("bare", 2, "no container can boot it"),
        ("broken", 3, "Nix could not build"),
        ("nothing", 3, "is no host of fleet.toml"),
        ("./result-of-nothing", 2, "is not a store path"),
    ],
)
def test_what_cannot_be_an_image_leaves_the_file_as_it_was(
    capsys: pytest.CaptureFixture[str], what: str, code: int, said: str
) -> None:
    Path("kept.tar").write_text("kept")
    assert run(["image", "build", what, "-o", "kept.tar"]) == code
    assert said in capsys.readouterr().err
    assert Path("kept.tar").read_text() == "kept"
    assert not list(Path().glob(".kept.tar*"))
