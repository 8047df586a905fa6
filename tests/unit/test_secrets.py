"""Secrets on the controller: what fleet.toml may say, how values are read, and that nothing repeats one."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet.deploy.host import HostRun
from fleet.deploy.secrets import HostSecrets
from fleet.errors import ConfigError, SecretError, UnreachableError
from fleet.events import HostFinished, SecretsCompared
from fleet.host import secrets as asked
from fleet.host.answers import view
from fleet.host.program import HostProgram
from fleet.inventory import SecretPlace, parse
from fleet.ledger import Kind
from fleet.machine import Command, Output
from fleet.machine.local import LocalMachine
from fleet.model import Goal, HostName, HostResult, Outcome, RunId, Verb
from fleet.plans import Part
from fleet.source.tree import Tree, plain_values
from fleet.state.entered import Entered
from fleet.steps.hold import Hold
from fleet.steps.secret_values import LONGEST, SecretReader, Value, take_environment
from tests import fakes
from tests.fakes import Events, FakeLink, FakeMachine, asks, in_no_time, runs, said
from tests.unit import builders
from tests.unit.event_samples import sealed
from tests.unit.world import World

if TYPE_CHECKING:
    from fleet.inventory import Host, Inventory
    from tests.unit.conftest import CommandLine

RUN = RunId("20261120T042211-3fa9c1d2")
MARKER = b"a value that is nowhere\0\xff"


def inventory(text: str, folder: Path = Path("/etc/home")) -> Inventory:
    return parse(folder / "fleet.toml", f"[hosts.web-1]\n{text}")


def web(text: str, folder: Path = Path("/etc/home")) -> Host:
    (host,) = inventory(f"[hosts.web-1.secrets.token]\n{text}", folder).hosts.values()
    return host


# --- fleet.toml ---


def test_usual_places_are_ones_that_root_alone_decides_about() -> None:
    (secret,) = web('env = "X"').secrets.values()
    assert str(secret.place) == "token /run/fleet-secrets/token root root 400 tmpfs before -"
    (secret,) = web('env = "X"\nstorage = "disk"\nrestart = ["nginx", "a.timer"]\nwhen = "after"').secrets.values()
    assert str(secret.place) == ("token /var/lib/fleet-secrets/token root root 600 disk after nginx.service a.timer")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "exactly one of command, file, env, age, sops"),
        ('env = "X"\nfile = "y"', "has file and env"),
        ('env = "X"\nkey = "a"', "key is for a file of sops"),
        ('env = "X"\npath = "run/x"', "an absolute path"),
        ('env = "X"\npath = "/run/a/../b"', "no '..'"),
        ('env = "X"\npath = "/run//b"', "no '//'"),
        ('env = "X"\npath = "/run/a b"', "a plain path"),
        ('env = "X"\npath = "/run/x/"', "a plain path"),
        ('env = "X"\npath = "/nix/store/x"\nstorage = "disk"', "in /nix"),
        ('env = "X"\npath = "/run/fleet/open/x"', "in /run/fleet"),
        ('env = "X"\npath = "/run/user/1000/x"', "in /run/user"),
        ('env = "X"\npath = "/tmp/x"\nstorage = "disk"', "in /tmp"),
        ('env = "X"\npath = "/run/fleet-secrets/.staged"', "a dot before"),
        ('env = "X"\npath = "/etc/x"', 'storage = "tmpfs" does not fit'),
        ('env = "X"\nstorage = "disk"\npath = "/run/x"', 'storage = "disk" does not fit'),
        ('env = "X"\nstorage = "disk"\nmode = "0640"', "for its owner alone"),
        ('env = "X"\nmode = "0444"', "others have no right"),
        ('env = "X"\nmode = "4400"', "others have no right"),
        ('env = "X"\nmode = "0040"', "the owner can read it"),
        ('env = "X"\nowner = "a:b"', "a user name"),
        ('env = "X"\nrestart = ["-x"]', "the name of a unit"),
        ('env = "1X"', "environment variable"),
        ("command = []", "a program and its arguments"),
        ('command = "pass show x"', "a program and its arguments"),
        ('env = "X"\nname = "y"', "the name of a secret is the name of its table"),
        ('env = "X"\nunits = []', "unknown key"),
        ('file = "/nix/store/x"', "everybody can read it"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        web(text)
    assert says in refused.value.message
    assert "[hosts.web-1" in refused.value.message
    assert "token" in refused.value.message


@pytest.mark.parametrize("other", ["/run/a", "/run/a/b"])
def test_two_secrets_are_not_at_one_place(other: str) -> None:
    with pytest.raises(ConfigError, match="cannot both be there"):
        inventory(
            f'[hosts.web-1.secrets.a]\nenv = "A"\npath = "/run/a"\n[hosts.web-1.secrets.b]\nenv = "B"\npath = "{other}"'
        )


def test_host_has_the_secrets_of_the_defaults_too_and_its_own_come_first() -> None:
    text = (
        '[defaults.secrets.a]\nfile = "{name}/a"\n[defaults.secrets.b]\nenv = "B"\n[hosts.web-1.secrets.b]\nenv = "C"'
    )
    (host,) = inventory(text).hosts.values()
    assert (host.secrets["a"].file, host.secrets["b"].env) == (Path("/etc/home/web-1/a"), "C")


# --- plans ---


def test_part_names_each_place_and_is_read_back() -> None:
    places = (SecretPlace.parse("token /run/fleet-secrets/token root root 400 tmpfs before nginx.service"),)
    part = builders.part(secrets=places)
    assert f"\nsecret {places[0]}\n" in part.text
    assert Part.parse(part.text) == part


@pytest.mark.parametrize(
    "line",
    [
        "token /run/x root root 0400 tmpfs before -",
        "token /run/../x root root 400 tmpfs before -",
        "token /run/x root root 400 tmpfs before",
        "token /run/x root root 400 tmpfs before nginx",
        "token /run/x root root 444 tmpfs before -",
        "/token /run/x root root 400 tmpfs before -",
    ],
)
def test_place_that_fleet_does_not_write_is_not_read(line: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        SecretPlace.parse(line)


# --- values ---


async def read(host: Host, folder: Path = Path("/")) -> bytes:
    reader = SecretReader(LocalMachine(), folder=folder)
    places = [secret.place for secret in host.secrets.values()]
    return (await reader.read(host, places))["token"].reveal()


async def test_value_is_what_the_command_writes_to_the_byte(tmp_path: Path) -> None:
    script = "import os,sys; os.write(1, bytes(range(256)) + os.environb[b'FLEET_SECRET'] + os.getcwdb())"
    host = web(f"command = [{sys.executable!r}, '-c', {script!r}]".replace("'", "'"))
    assert await read(host, tmp_path) == bytes(range(256)) + b"token" + os.fsencode(tmp_path)


async def test_value_is_what_the_file_has_to_the_byte(tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(MARKER)
    assert await read(web('file = "value"', tmp_path)) == MARKER


async def test_variable_is_not_in_the_environment_any_more_and_is_still_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", "from the environment")
    found = inventory('[hosts.web-1.secrets.token]\nenv = "PLANTED"')
    take_environment(found)
    take_environment(found)
    assert "PLANTED" not in os.environ
    inherited = await LocalMachine().run(Command(argv=("env",)))
    assert "from the environment" not in inherited.stdout
    (host,) = found.hosts.values()
    assert await read(host) == b"from the environment"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('command = ["sh", "-c", "echo the-value >&2; exit 3"]', "sh failed with exit status 3"),
        ('command = ["no-such-program"]', "127"),
        ('command = ["true"]', "gives an empty value"),
        (f'command = ["head", "-c", "{LONGEST + 1}", "/dev/zero"]', "more than 256 KiB"),
        ('file = "/no/such/file"', "cannot be read"),
        ('env = "NOT_SET_ANYWHERE"', "is not set"),
    ],
)
async def test_value_that_cannot_be_had_is_an_error_that_does_not_repeat_it(text: str, says: str) -> None:
    with pytest.raises(SecretError) as failed:
        await read(web(text))
    assert says in failed.value.message
    assert "the-value" not in f"{failed.value.failure()}"


async def test_secret_that_is_not_declared_any_more_is_an_error() -> None:
    place = SecretPlace.parse("gone /run/x root root 400 tmpfs before -")
    with pytest.raises(SecretError, match="does not have it any more"):
        await SecretReader(LocalMachine(), folder=Path("/")).read(web('env = "X"'), [place])


def age(*argv: str | Path, given: bytes = b"") -> str:
    return subprocess.run(argv, input=given, check=True, capture_output=True).stdout.decode().strip()


async def test_file_of_age_is_decrypted_with_the_identity_of_the_fleet(tmp_path: Path) -> None:
    if shutil.which("age") is None:
        assert "CI" not in os.environ
        pytest.skip("there is no age here")
    key, encrypted = tmp_path / "key", tmp_path / "value.age"
    age("age-keygen", "-o", key)
    age("age", "-r", age("age-keygen", "-y", key), "-o", encrypted, given=MARKER)
    host = web('age = "value.age"', tmp_path)
    for identities, is_ours in (([key], True), ([tmp_path / "other"], False)):
        reader = SecretReader(LocalMachine(), folder=tmp_path, identities=identities)
        reading = reader.read(host, [secret.place for secret in host.secrets.values()])
        if is_ours:
            assert (await reading)["token"].reveal() == MARKER
        else:
            with pytest.raises(SecretError, match="age failed"):
                await reading


async def test_age_and_sops_get_names_of_files_and_nothing_else() -> None:
    encoded = base64.b64encode(MARKER).decode()
    for text, words in (
        ('age = "a.age"', ("--decrypt", "-i", "/etc/home/key", "/etc/home/a.age")),
        ('sops = "a.yaml"\nkey = "db/password"', ("--decrypt", "--extract", '["db"]["password"]', "/etc/home/a.yaml")),
        ('sops = "a.yaml"', ("--decrypt", "/etc/home/a.yaml")),
    ):
        here = FakeMachine((runs("env"), Output(status=0, stdout=encoded)))
        host = web(text)
        reader = SecretReader(here, folder=Path("/etc/home"), identities=[Path("/etc/home/key")])
        found = await reader.read(host, [secret.place for secret in host.secrets.values()])
        assert found["token"].reveal() == MARKER
        assert here.ran[-1].argv[-len(words) :] == words


def test_no_text_has_a_value() -> None:
    place = SecretPlace.parse("token /run/x root root 400 tmpfs before -")
    command = HostProgram().call("secrets", "put", RUN, stdin=asked.written([place], {"token": MARKER}))
    for text in (repr(Value(MARKER)), str(Value(MARKER)), repr(command), str(command)):
        assert MARKER.decode(errors="replace") not in text
        assert base64.b64encode(MARKER).decode() not in text


# --- hosts ---


HOST = web('command = ["printf", "good"]')


def secrets_of(link: FakeLink, events: Events, **changes: Any) -> HostSecrets:
    """The secrets of `HOST`, whose one value is `good`."""
    host = HOST
    places = tuple(secret.place for secret in host.secrets.values())
    reader = SecretReader(LocalMachine(), folder=Path("/"))
    context = builders.context(events, links={host.name: link}, secrets=reader)
    program = HostProgram("/nix/store/x/fleet-host")
    return HostSecrets(context, builders.job(host, secrets=places, **changes), program, Hold("2"))


async def test_host_is_told_what_comes_and_tells_what_differs() -> None:
    machine = FakeLink(HOST, (asks("secrets"), said(compared=["token yes"])))
    events = Events()
    assert await secrets_of(machine, events).stage()
    assert [event for event in events if isinstance(event, SecretsCompared)] == [
        SecretsCompared(host=HostName("web-1"), changed=("token",), same=())
    ]
    (command,) = machine.ran
    assert command.stdin.decode().splitlines() == [
        "secret token /run/fleet-secrets/token root root 400 tmpfs before -",
        f"value {base64.b64encode(b'good').decode()}",
        "end",
    ]


async def test_trial_whose_secrets_cannot_be_filled_goes_back_and_is_not_blamed() -> None:
    machine = FakeLink(
        HOST, (asks("secrets"), said(refused="unfit", message="secret token: /run is a link")), (asks("word"), said())
    )
    await secrets_of(machine, Events(), goal=Goal.BOOT).fill_trial()
    (words,) = fakes.asked("word", machine.ran)
    assert words[1].startswith("abandon silent its secrets could not be filled")
    assert words[-1] == "2", "who was displaced takes nobody back"


@pytest.mark.parametrize(("later", "is_given_up"), [(said(compared=["token yes"]), False), (None, True)])
def test_host_that_is_lost_after_its_boot_is_asked_again_for_a_while(
    later: Output | None, *, is_given_up: bool
) -> None:
    lost = UnreachableError(HOST.name, "connection lost")
    machine = FakeLink(HOST, (asks("secrets"), [lost, later or lost]), (asks("word"), said()))
    secrets = secrets_of(machine, Events(), goal=Goal.BOOT)
    asyncio.run(secrets.read())  # by a process, which takes time

    @in_no_time
    async def fill() -> None:
        await secrets.fill_trial()

    fill()
    calls = fakes.asked("secrets", machine.ran)
    assert {(words[0], words[-1]) for words in calls} == {("fill", "2")}
    assert (len(calls) > 2, len(fakes.asked("word", machine.ran))) == (is_given_up, int(is_given_up))


async def test_values_are_read_once_though_the_job_is_planned_anew(tmp_path: Path) -> None:
    count = tmp_path / "count"
    host = web(f'command = ["sh", "-c", "echo >>{count}; printf good"]')
    machine = FakeLink(host, (asks("secrets"), said(compared=["token yes"])))
    reader = SecretReader(LocalMachine(), folder=Path("/"))
    context = builders.context(Events(), links={host.name: machine}, secrets=reader)
    job = builders.job(host, secrets=tuple(secret.place for secret in host.secrets.values()), goal=Goal.BOOT)
    first = HostRun.of(context, job, HostProgram("/nix/store/x/fleet-host"))
    await first.secrets.stage()
    await dataclasses.replace(
        first, job=dataclasses.replace(job, overtaken=("others came first",))
    ).secrets.fill_trial()
    assert len(fakes.asked("secrets", machine.ran)) == 2
    assert count.read_text() == "\n"


async def test_what_a_reboot_has_taken_is_filled_when_the_run_has_ended() -> None:
    machine = FakeLink(HOST, (asks("secrets"), said(compared=["token yes"])))
    secrets = secrets_of(machine, Events())
    assert await secrets.fill_after(view({"state": ["reverted"]})) == ""
    assert machine.ran == []
    missing = {"state": ["reverted"], "secret_missing": ["token", "../x"]}
    assert await secrets.fill_after(view(missing)) == ""
    assert machine.ran == []  # it was not there before, and nothing has taken it
    assert await secrets.fill_after(view({**missing, "rebooted": ["yes"]})) == ""
    assert len(machine.ran) == 1


@pytest.mark.parametrize(("later", "is_told"), [(said(compared=["token yes"]), False), (None, True)])
def test_host_that_is_lost_when_the_run_has_ended_is_asked_again_for_a_while(
    later: Output | None, *, is_told: bool
) -> None:
    lost = UnreachableError(HOST.name, "connection lost")
    machine = FakeLink(HOST, (asks("secrets"), [lost, later or lost]))
    secrets = secrets_of(machine, Events())
    asyncio.run(secrets.read())  # by a process, which takes time
    told = []

    @in_no_time
    async def fill() -> None:
        told.append(await secrets.fill_after(view({"state": ["committed"], "secret_missing": ["token"]})))

    fill()
    assert len(fakes.asked("secrets", machine.ran)) > 1
    assert ("could not be filled: connection lost" in told[0]) == is_told


async def test_digests_are_compared_under_a_key_of_their_own() -> None:
    import hashlib

    places = [SecretPlace.parse(f"{name} /run/{name} root root 400 tmpfs before -") for name in "abcd"]
    values = {place.name: place.name.encode() for place in places}
    keys = []

    def answers(command: Command) -> Any:
        key = command.stdin.decode().splitlines()[0].removeprefix("key ")
        keys.append(key)
        digest = {name: hashlib.sha256(key.encode() + name.encode()).hexdigest() for name in "abcd"}
        lines = [f"a {digest['a']} root:root:400", f"b {digest['a']} root:root:400", f"c {digest['c']} root:root:440"]
        return said(secret=[*lines, "d absent"], known=["a /run/a", "old /run/old"])

    machine = FakeMachine((asks("secrets"), answers))
    for _ in range(2):
        states, left = await asked.compare(machine, web('env = "X"'), HostProgram("/x/fleet-host"), places, values)
        assert [one.state for one in states] == ["same", "differs", "differs", "absent"]
        assert left == ("old",)
    assert len(set(keys)) == 2
    assert all(b"value" not in command.stdin for command in machine.ran)


def test_value_that_git_tracks_in_the_flake_is_found(tmp_path: Path) -> None:
    tree = Tree(tmp_path, (Path("flake.nix"), Path("secrets/token")))
    (found,) = plain_values(tree, [tmp_path / "secrets/token", tmp_path / "ignored", Path("/etc/token")])
    assert (found.kind, "secrets/token" in found.message) == ("secret", True)


@pytest.mark.parametrize(("outcome", "entered"), [(Outcome.KEPT, ["token"]), (Outcome.ROLLED_BACK, [])])
def test_ledger_names_what_a_host_that_keeps_its_system_has_got(outcome: Outcome, entered: list[str]) -> None:
    name = HostName("web-1")
    ends = HostFinished(host=name, result=HostResult(host=name, outcome=outcome))
    run = Entered("desk", Verb.DEPLOY)
    run.begin([name])
    found = run.entries(map(sealed, (SecretsCompared(host=name, changed=("token",), same=("other",)), ends)))
    assert [entry.values["secret"] for entry in found if entry.kind is Kind.SECRET_CHANGED] == entered


async def test_value_whose_command_takes_too_long_is_told_by_the_command_that_people_wrote() -> None:
    host = web('command = ["pass", "show", "x"]')
    reader = SecretReader(LocalMachine(), folder=Path("/"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fleet.steps.secret_values.TIMEOUT", 0.05)
        patch.setattr("fleet.steps.secret_values.one_line", lambda *_: "sleep 60")
        with pytest.raises(SecretError, match=r"^secret token: pass did not end within 0\.05 s$"):
            await reader.read(host, [host.secrets["token"].place])


def profiled(tmp_path: Path) -> World:
    """A host with a secret and a profile beside its system, and another without any."""
    more = '[hosts.a.secrets.token]\ncommand = ["give"]\n[hosts.a.profiles.ann]\n[hosts.b.profiles.bob]\n'
    world = World(tmp_path, "a", "b", more=more)
    world.here_too((runs("env"), Output(status=0, stdout="Z29vZA==\n")))
    world.on("a", (asks("secrets"), said(compared=["token yes"], secret="token absent")))
    world.on("b", (asks("secrets"), said()))
    return world


@pytest.mark.parametrize("words", [("push", "*", "--yes"), ("status", "*"), ("status", "a", "a.ann")])
def test_profiles_are_not_asked_for_the_secrets_of_their_hosts(
    tmp_path: Path, command_line: CommandLine, words: tuple[str, ...]
) -> None:
    world = profiled(tmp_path)
    document = json.loads(command_line(world, "secrets", *words, "--json").out)
    assert {row["name"] for row in document["hosts"]} == ({"a", "b"} if "*" in words else {"a"})
    assert all(row["error"] is None for row in document["hosts"])
    for name in ("a.ann", "b.bob"):
        assert world.links[HostName(name)].ran == []


async def test_library_asks_no_profile_for_secrets(tmp_path: Path) -> None:
    async with profiled(tmp_path).fleet() as fleet:
        for answers in (await fleet.push_secrets("*"), await fleet.secrets_status("*"), await fleet.fill_secrets("*")):
            assert set(answers) == {"a", "b"}


def test_profile_alone_has_no_secrets(tmp_path: Path, command_line: CommandLine) -> None:
    for verb in ("push", "status"):
        (folder := tmp_path / verb).mkdir()
        shown = command_line(profiled(folder), "secrets", verb, "a.ann")
        assert (shown.code, "a.ann: a profile has no secrets" in shown.err) == (2, True)
