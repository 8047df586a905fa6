"""The mesh between hosts: addresses, what mesh.toml may say, whose keys are written, and who is reached by it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.cli import questions, run
from fleet.errors import AnswerError, ConfigError, GateError, UnfitError
from fleet.inventory import load, parse
from fleet.inventory.mesh import Mesh, address_of, load_mesh, mesh_text, parse_mesh, prefix_of, usual_endpoint
from fleet.library.meshing import PUBLIC, MeshKey, findings_of, mesh_keys
from fleet.library.reading import ignore
from fleet.machine import Output
from fleet.machine.login import Logins
from fleet.model import HostName, Severity
from tests.fakes import FakeLink, FakeLogins, runs
from tests.unit import builders
from tests.unit.world import World

if TYPE_CHECKING:
    from fleet.errors import FleetError
    from fleet.inventory import Host
    from fleet.machine import Command

ID = "0123456789abcdef"
PREFIX = prefix_of(ID)
WEB, DB = HostName("web"), HostName("db")
SCRIPT = Path(__file__).parent.parent.parent / "modules" / "lib" / "mesh-key.sh"
TOML = f"""
[fleet]
name = "home"
id = "{ID}"
[defaults]
mesh = true
[hosts.web]
address = "web.example.org"
[hosts.db]
mesh = false
"""


def key(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


def entry(name: str, number: int, more: str = "") -> str:
    return f'[hosts.{name}]\npublic_key = "{key(number)}"\naddress = "{address_of(PREFIX, name)}"\n{more}\n'


def mesh(*entries: str) -> str:
    return "\n".join([f'prefix = "{PREFIX}"', *entries])


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a fleet.toml, and a machine that is in no mesh."""
    (tmp_path / "fleet.toml").write_text(TOML)
    monkeypatch.setenv("FLEET_FILE", str(tmp_path / "fleet.toml"))
    monkeypatch.setattr("fleet.inventory.mesh.OWN_ADDRESSES", tmp_path / "if_inet6")
    return tmp_path


# --- addresses --------------------------------------------------------------------------------------


def test_address_is_the_same_for_ever_and_of_the_fleet() -> None:
    assert PREFIX == "fd25:219a:49b6::/64"
    assert address_of(PREFIX, "web-1") == "fd25:219a:49b6:0:f5b5:9ff5:5625:bdb0"
    names = [f"host-{number}" for number in range(2000)]
    found = {IPv6Address(address_of(PREFIX, name)) for name in names}
    assert len(found) == len(names)
    assert all(address in IPv6Network(PREFIX) for address in found)
    assert prefix_of("f" * 16) != PREFIX


@pytest.mark.parametrize(
    ("keys", "endpoint"),
    [
        ({"address": "web.lan"}, "web.lan:51820"),
        ({"address": ["local", "fd00::7"]}, "[fd00::7]:51820"),
        ({"address": "local"}, None),
        ({"jump": "me@bastion"}, None),
        ({"kind": "laptop"}, None),
    ],
)
def test_a_new_host_has_an_endpoint_only_where_others_may_reach_it(
    keys: dict[str, object], endpoint: str | None
) -> None:
    assert usual_endpoint(builders.host("web", **keys)) == endpoint


# --- mesh.toml --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "mesh.toml: prefix: is missing"),
        ("prefix = ", "is not TOML"),
        ('prefix = "fe80::/64"', "prefix: found"),
        ('prefix = "fd00::1/64"', "prefix: found"),
        ('prefix = "fd00::/48"', "prefix: found"),
        (mesh("host = 1"), "mesh.toml: host: unknown key; did you mean hosts?"),
        (mesh("hosts = 1"), "mesh.toml: hosts: found 1, expected tables"),
        (mesh('hosts."a b" = {}'), '[hosts."a b"]: a host\'s name'),
        (mesh("hosts.web = 1"), "[hosts.web]: found 1, expected a table"),
        (mesh("[hosts.web]"), "[hosts.web] public_key: is missing"),
        (mesh(entry("web", 1, 'endpont = "x:1"')), "[hosts.web] endpont: unknown key; did you mean endpoint?"),
        (mesh(entry("web", 1, 'endpoint = "x"')), '[hosts.web] endpoint: found "x", expected "host:port"'),
        (mesh(entry("web", 1, 'endpoint = "$(x):1"')), "[hosts.web] endpoint: found"),
        (mesh(entry("web", 1).replace("fd25", "fe80::%eth0/")), "[hosts.web] address: found"),
        (mesh(entry("web", 1).replace(address_of(PREFIX, "web"), "10.0.0.1")), "[hosts.web] address: found"),
        (mesh(entry("web", 1).replace(key(1), key(1)[:-4])), "44 characters of base64"),
        (mesh(entry("web", 1).replace(key(1), key(1)[:-2] + "B=")), "44 characters of base64"),
        (mesh(entry("web", 1).replace(key(1), "\u00fc" * 44)), "44 characters of base64"),
        (mesh(entry("web", 1).replace(f'"{key(1)}"', "7")), "[hosts.web] public_key: found 7"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_mesh(Path("/fleet/mesh.toml"), text)
    assert says in caught.value.message
    assert caught.value.message.startswith("/fleet/mesh.toml: ")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_mesh(Path("/fleet/mesh.toml"), "prefix = 1\nx = 1\n[hosts.web]\npublic_key = 1\n")
    assert len(caught.value.message.splitlines()) == 4


def test_what_is_written_reads_the_same() -> None:
    found = parse_mesh(
        Path("/m"), mesh(entry("web", 1, 'endpoint = "web:51820"'), entry("a.b", 2).replace("a.b]", '"a.b"]'))
    )
    assert parse_mesh(Path("/m"), mesh_text(found)) == found
    assert [*found.hosts] == ["web", "a.b"]


def test_a_mesh_toml_that_is_no_text_is_told(folder: Path) -> None:
    (folder / "mesh.toml").write_bytes(b"\xff")
    assert run(["mesh", "show"]) == 2
    (folder / "mesh.toml").unlink()
    (folder / "mesh.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_mesh(folder / "mesh.toml")


# --- reached by it ----------------------------------------------------------------------------------


def enter(folder: Path, address: str) -> None:
    """Let this machine have the address."""
    line = f"{IPv6Address(address).packed.hex()} 05 80 00 80 fleet-mesh\n"
    (folder / "if_inet6").write_text(f"{'0' * 31}1 01 80 10 80 lo\n{line}")


def test_its_address_in_the_mesh_is_the_last_where_this_machine_is_in_the_mesh(folder: Path) -> None:
    (folder / "mesh.toml").write_text(mesh(entry("web", 1), entry("db", 2)))
    assert load(folder / "fleet.toml").hosts[WEB].address == ("web.example.org",)
    enter(folder, "fd99::1")
    assert load(folder / "fleet.toml").hosts[WEB].address == ("web.example.org",)
    enter(folder, address_of(PREFIX, "laptop"))
    found = load(folder / "fleet.toml").hosts
    assert found[WEB].address == ("web.example.org", address_of(PREFIX, "web"))
    assert found[DB].address == ("db",)


def test_a_profile_is_reached_as_its_host_is(folder: Path) -> None:
    (folder / "mesh.toml").write_text(mesh(entry("web", 1)))
    (folder / "fleet.toml").write_text(f'[fleet]\nid = "{ID}"\n[hosts.web]\nmesh = true\n[hosts.web.profiles.ann]\n')
    enter(folder, address_of(PREFIX, "laptop"))
    found = load(folder / "fleet.toml").hosts
    assert found[HostName("web.ann")].address == ("web", address_of(PREFIX, "web"))


def test_a_wrong_mesh_toml_stops_only_those_that_use_it(folder: Path) -> None:
    (folder / "mesh.toml").write_text("prefix = 1")
    with pytest.raises(ConfigError, match=r"mesh\.toml: prefix"):
        load(folder / "fleet.toml")
    (folder / "fleet.toml").write_text(TOML.replace("mesh = true", ""))
    assert load(folder / "fleet.toml").hosts[WEB].address == ("web.example.org",)


# --- fleet check ------------------------------------------------------------------------------------


def kinds(folder: Path, text: str) -> dict[str, str]:
    (folder / "mesh.toml").write_text(text)
    return {each.kind: each.message for each in findings_of(load(folder / "fleet.toml"))}


def test_what_does_not_fit_the_fleet_is_found(folder: Path) -> None:
    (missing,) = findings_of(load(folder / "fleet.toml"))
    assert (missing.kind, missing.severity) == ("mesh_missing", Severity.NOTE)
    assert "[hosts.web]" in missing.message
    assert kinds(folder, mesh(entry("web", 1), entry("db", 2))) == {}
    shared = kinds(folder, mesh(entry("web", 1), entry("db", 1)))
    assert shared == {"mesh_shared_key": f"mesh.toml: web, db have one key, {key(1)}"}
    assert [*kinds(folder, mesh(entry("web", 1), entry("old", 2)))] == ["mesh_stale"]
    same = address_of(PREFIX, "web")
    collide = kinds(folder, mesh(entry("web", 1), entry("db", 2).replace(address_of(PREFIX, "db"), same)))
    assert set(collide) == {"mesh_shared_address", "mesh_address"}
    other = kinds(folder, mesh(entry("web", 1)).replace(PREFIX, "fd00:1:2::/64"))
    assert set(other) == {"mesh_prefix", "mesh_address"}


def test_a_fleet_without_a_mesh_has_nothing_to_find(folder: Path) -> None:
    (folder / "fleet.toml").write_text(TOML.replace("mesh = true", ""))
    assert findings_of(load(folder / "fleet.toml")) == ()


# --- fleet mesh keys --------------------------------------------------------------------------------


def answering(name: str, said: str, *, status: int = 0, gate: bool = False) -> FakeLink:
    """A host that says this of its public key, and refuses to be asked anything else."""

    def fits(command: Command) -> bool:
        return command.argv == ("head", "-c", "200", PUBLIC) and not command.root

    return FakeLink(builders.host(name, gate=gate), (fits, Output(status=status, stdout=said)))


async def asked(*links: FakeLink, known: Mesh | None = None) -> dict[str, MeshKey | FleetError]:
    hosts = "\n".join(f"[hosts.{link.name}]" for link in links)
    inventory = parse(Path("/fleet/fleet.toml"), hosts)
    logins = FakeLogins(links)
    found = await mesh_keys(logins, inventory, [link.host for link in links], known, on_wait=ignore)
    return {str(name): each for name, each in found.items()}


async def test_a_key_is_taken_as_it_is_and_anything_else_is_refused() -> None:
    found = await asked(
        answering("good", f"{key(1)}\n"),
        answering("none", "", status=1),
        answering("two", f"{key(2)}\n{key(3)}\n"),
        answering("cut", key(2)[:30]),
        answering("private", "\x1b[31mAAAA"),
    )
    assert isinstance(found["good"], MeshKey)
    assert (found["good"].key, found["good"].remark) == (key(1), "new")
    assert isinstance(found["none"], UnfitError)
    assert "services.fleet.mesh" in found["none"].hint
    for name in ("two", "cut", "private"):
        assert isinstance(found[name], AnswerError)


async def test_a_gate_is_asked_by_its_verb_and_an_older_one_says_that_it_has_none() -> None:
    old = "refused=gate\nmessage=the gate does not do 'mesh-key' with these 0 words\n"
    new, other = answering("new", f"{key(1)}\n", gate=True), answering("old", old, gate=True)
    found = await asked(new, other)
    assert isinstance(found["new"], MeshKey)
    assert [command.verb for command in new.ran] == [("mesh-key",)]
    assert isinstance(found["old"], GateError)
    assert "does not do 'mesh-key'" in found["old"].message


async def test_a_key_that_two_hosts_have_is_taken_of_neither() -> None:
    found = await asked(answering("a", key(1)), answering("b", key(1)), answering("c", key(2)))
    assert [type(each) for each in found.values()] == [AnswerError, AnswerError, MeshKey]
    known = parse_mesh(Path("/m"), mesh(entry("b", 1), entry("old", 3)))
    of_known = await asked(answering("a", key(1)), answering("b", key(4)), known=known)
    assert isinstance(of_known["a"], AnswerError)
    renamed = await asked(answering("new", key(3)), known=known)
    assert isinstance(renamed["new"], MeshKey), "the entry of its old name is taken out"


@pytest.fixture
def hosts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hosts that answer with keys, and a person at a terminal who has to be asked."""
    links = {"web": answering("web", key(1)), "db": answering("db", key(2))}

    def link(_: Logins, host: Host) -> FakeLink:
        return links[host.name]

    monkeypatch.setattr(Logins, "link", link)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    return folder


def test_keys_are_shown_and_written_after_one_question(
    hosts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = hosts / "mesh.toml"
    answers = [False, True]
    monkeypatch.setattr(questions, "confirmed", lambda _: answers.pop(0))
    assert run(["mesh", "keys", "--all"]) == 1
    assert not file.exists()
    assert run(["mesh", "keys", "--all"]) == 0
    said = capsys.readouterr().err
    assert key(1) in said
    found = load_mesh(file)
    assert found is not None
    assert found.hosts[WEB].model_dump() == {
        "public_key": key(1), "address": address_of(PREFIX, "web"), "endpoint": "web.example.org:51820",
    }  # fmt: skip
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert run(["mesh", "keys", "--all"]) == 0, "nothing is asked where nothing changes"


def test_an_endpoint_that_people_wrote_stays_and_a_host_that_left_is_taken_out(
    hosts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = hosts / "mesh.toml"
    file.write_text(mesh(entry("web", 7, 'endpoint = "203.0.113.7:4000"'), entry("old", 8)))
    assert run(["mesh", "keys", "web", "--yes"]) == 0
    said = capsys.readouterr().err
    assert f"ANOTHER than in mesh.toml, {key(7)}" in said
    assert "REMOVED" in said
    found = load_mesh(file)
    assert found is not None
    assert (found.hosts[WEB].public_key, found.hosts[WEB].endpoint) == (key(1), "203.0.113.7:4000")
    assert [*found.hosts] == ["web"]


def test_without_a_terminal_nothing_is_written_unasked(hosts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert run(["mesh", "keys", "web"]) == 2
    assert not (hosts / "mesh.toml").exists()


def test_a_mesh_of_another_fleet_is_left_as_it_is(hosts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = mesh().replace(PREFIX, "fd00:1:2::/64")
    (hosts / "mesh.toml").write_text(before)
    assert run(["mesh", "keys", "--all", "--yes"]) == 2
    assert "is it of another fleet?" in capsys.readouterr().err
    assert (hosts / "mesh.toml").read_text() == before


def test_a_fleet_without_an_id_gets_one(hosts: Path) -> None:
    file = hosts / "fleet.toml"
    file.write_text(TOML.replace(f'id = "{ID}"\n', ""))
    assert run(["mesh", "keys", "web", "--yes"]) == 0
    found = load_mesh(hosts / "mesh.toml")
    assert found is not None
    assert found.prefix == prefix_of(load(file).id) != PREFIX


def test_the_mesh_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["mesh", "show"]) == 2
    assert "fleet mesh keys --all" in capsys.readouterr().err
    (folder / "mesh.toml").write_text(mesh(entry("web", 1), entry("old", 2)))
    assert run(["mesh", "show"]) == 0
    said = capsys.readouterr()
    assert address_of(PREFIX, "web") in said.out
    assert "no host" in said.out
    assert "is not in the mesh" in said.err
    assert run(["mesh", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["prefix"], shown["is_member"]) == (PREFIX, False)
    assert [(one["name"], one["is_stale"]) for one in shown["hosts"]] == [("web", False), ("old", True)]


# --- the key on a host ------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("sync") is None, reason="no coreutils here")
def test_the_key_is_made_once_and_root_alone_can_read_it(tmp_path: Path) -> None:
    """A stand-in for wg: a private key is 32 random bytes, and its public half the SHA-256 of it."""
    wg = tmp_path / "bin" / "wg"
    wg.parent.mkdir()
    wg.write_text(
        "#!/bin/sh\nif [ $1 = genkey ]; then head -c 32 /dev/urandom | base64; else tee -a seen | sha256sum; fi\n"
    )
    wg.chmod(0o755)
    state = tmp_path / "state"
    state.mkdir()
    environment = {"PATH": f"{wg.parent}:{os.environ['PATH']}", "STATE_DIRECTORY": str(state)}

    def start() -> tuple[str, str]:
        subprocess.run(["sh", "-e", str(SCRIPT)], env=environment, check=True)
        return (state / "key").read_text(), (state / "public").read_text()

    (state / "key").touch()  # a power cut may leave it empty
    first = start()
    assert start() == first
    assert stat.S_IMODE((state / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE((state / "public").stat().st_mode) == 0o644
    (state / "public").unlink()
    assert start() == first


async def test_programs_read_the_mesh_and_ask_for_keys_as_people_do(tmp_path: Path) -> None:
    world = World(tmp_path, "web", "db")
    assert world.fleet().mesh.read() is None
    (tmp_path / "mesh.toml").write_text(mesh(entry("web", 1)))
    found = world.fleet().mesh.read()
    assert found is not None
    assert list(found.hosts) == ["web"]
    for number, name in enumerate(("web", "db"), 1):
        world.on(name, (runs("head"), Output(status=0, stdout=f"{key(number)}\n")))
    told = await world.fleet().mesh.keys("*")
    assert {name: each.remark for name, each in told.items() if isinstance(each, MeshKey)} == {
        "web": "known",
        "db": "new",
    }
