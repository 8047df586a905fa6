"""What an agent has asked for goes on in a process of its own: whoever comes later knows what became of it."""

from __future__ import annotations

import getpass
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

import fleet
from fleet.cli import run
from fleet.cli.parse import complaint
from fleet.errors import FleetError, StateError
from fleet.events import Envelopes, PhaseStarted, RunFinished, RunStarted
from fleet.inventory import load
from fleet.mcp import requests as module
from fleet.mcp.desk import Desk
from fleet.mcp.requests import Request, Requests
from fleet.mcp.tools import all_tools, offered
from fleet.model import Goal, HostName, Phase, RunId
from fleet.state.locks import acquire, release
from fleet.steps import secret_values
from tests.unit import builders
from tests.unit.agents import agent
from tests.unit.world import World
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleet.events import Event

ID = "20261120T042211-3fa9c1d2"


@pytest.fixture(autouse=True)
def reaped() -> Iterator[None]:
    """No process is left."""
    yield
    for process in module._under_way:
        process.wait(60)
    module._under_way.clear()


@pytest.fixture
def requests(tmp_path: Path) -> Requests:
    (tmp_path / "fleet.toml").write_text(builders.toml("web-1"))
    return Requests(tmp_path / "state" / "requests", {"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path)})


def describing(tmp_path: Path) -> Callable[[Path], list[str]]:
    return lambda _: ["describe", "--json", f"--file={tmp_path / 'fleet.toml'}"]


def test_what_was_asked_for_is_known_to_whoever_comes_later(requests: Requests, tmp_path: Path) -> None:
    begun = requests.begin(describing(tmp_path), verb="plan", by="agent-3", hosts=["web-1"])
    until(lambda: not begun.is_alive)
    later = Requests(tmp_path / "state" / "requests", {}).find(begun.id)
    assert later is not None
    assert later.document()["fleet"] == "home"
    assert (later.about["verb"], later.about["by"], later.about["hosts"]) == ("plan", "agent-3", ["web-1"])
    assert later.folder.stat().st_mode & 0o777 == 0o700


def test_it_is_alive_as_long_as_its_process_is(requests: Requests, tmp_path: Path) -> None:
    """The lock of its folder ends with the process, whoever kills it, and is not that of the server."""
    fifo = tmp_path / "fleet.fifo"
    os.mkfifo(fifo)
    begun = requests.begin(lambda _: ["show", str(fifo), f"--file={tmp_path / 'fleet.toml'}"], verb="plan", by="ann")
    assert begun.is_alive
    (process,) = module._under_way
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    assert requests.alive([], verb="plan") == begun
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert not begun.is_alive
    assert requests.alive([], verb="plan") is None


def test_modules_are_not_taken_from_where_it_runs(requests: Requests, tmp_path: Path) -> None:
    def words(folder: Path) -> list[str]:
        (folder / "json.py").write_text("raise SystemExit('theirs')\n")
        return describing(tmp_path)(folder)

    begun = requests.begin(words, verb="plan", by="ann")
    until(lambda: not begun.is_alive)
    assert begun.complaint() == []
    assert begun.document()["fleet"] == "home"


def test_a_full_disk_leaves_nothing_half_begun(tmp_path: Path) -> None:
    place = tmp_path / "requests"
    place.write_text("no folder")
    with pytest.raises(StateError):
        Requests(place, {}).begin(lambda _: [], verb="plan", by="ann")
    assert place.read_text() == "no folder"


def past(folder: Path, name: str, out: str, verb: str = "deploy", err: str = "") -> Request:
    place = folder / name
    (place / module.LOCK).mkdir(parents=True)
    about = {"verb": verb, "plan": "a" * 64, "hosts": ["a"], "by": "agent-3", "at": 1}
    (place / "request.json").write_text(json.dumps(about))
    (place / "out").write_text(out)
    (place / "err").write_text(err)
    return Request(place, about)


def test_the_oldest_that_have_ended_are_forgotten(requests: Requests, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "requests"
    for number in range(module.KEPT + 3):
        past(folder, f"20261120T{number:06}-3fa9c1", "")
    lock = acquire(folder / "20261120T000001-3fa9c1" / module.LOCK)
    assert lock is not None
    begun = requests.begin(describing(tmp_path), verb="plan", by="ann")
    names = {one.id for one in requests.all()}
    release(lock)
    assert len(names) == module.KEPT + 1
    assert {begun.id, "20261120T000001-3fa9c1"} <= names
    assert "20261120T000000-3fa9c1" not in names


def test_so_much_is_begun_at_once_and_no_more(requests: Requests, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "requests"
    alive = [past(folder, f"20261120T{number:06}-3fa9c1", "") for number in range(module.AT_ONCE)]
    locks = [acquire(one.folder / module.LOCK) for one in alive]
    with pytest.raises(FleetError, match="8 requests are under way"):
        requests.begin(describing(tmp_path), verb="plan", by="ann")
    assert module._under_way == []
    for lock in locks:
        assert lock is not None
        release(lock)
    requests.begin(describing(tmp_path), verb="plan", by="ann")


async def test_what_failed_before_it_was_a_run_is_told_by_what_it_said(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    error = {"kind": "config", "message": "no such plan"}
    past(tmp_path / "requests", ID, json.dumps({"event": "run_finished", "run": "", "exit_code": 2, "error": error}))
    past(tmp_path / "requests", ID.replace("1-", "2-"), "", verb="plan", err="Killed\x1b[0m\n")
    async with agent(world) as someone:
        told = await someone.call("run", run=ID)
        assert (told["state"], told["exit_code"], told["verb"]) == ("failed", 2, "deploy")
        assert told["foreign"]["error"]["message"] == "no such plan"
        told = await someone.call("run", run=ID.replace("1-", "2-"))
        assert (told["state"], told["foreign"]["said"]) == ("failed", ["Killed"])


async def test_what_goes_on_is_running_and_nothing_else_is_begun_for_it(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    one = past(tmp_path / "requests", ID, "", verb="plan")
    lock = acquire(one.folder / module.LOCK)
    assert lock is not None
    async with agent(world) as someone:
        told = await someone.call("run", run=ID)
        assert (told["state"], "run" in told["then"]) == ("running", True)
        release(lock)
        assert (await someone.call("run", run=ID))["state"] == "failed"


OURS = str(Path(fleet.__file__).parent.parent)
SERVER = [sys.executable, "-m", "fleet", "mcp", "--file"]


async def test_server_on_stdio_speaks_nothing_but_the_protocol(tmp_path: Path) -> None:
    """The real program, over pipes, with the client of the SDK."""
    (tmp_path / "fleet.toml").write_text(builders.toml("web-1"))
    environment = {"PYTHONPATH": OURS, "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    command, *words = [*SERVER, str(tmp_path / "fleet.toml")]
    started = stdio_client(StdioServerParameters(command=command, args=words, env=environment))
    async with Client(started) as client:
        assert len((await client.list_tools()).tools) == 15
        answer = await client.call_tool("inventory", {})
        assert '"fleet":"home"' in str(answer.content[0])


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Desk, dict[str, Any]]]:
    """The desks of the servers that were started, and how: none of them waits for anybody."""
    found: list[tuple[Desk, dict[str, Any]]] = []

    def server(desk: Callable[[], Desk], **options: Any) -> SimpleNamespace:
        offered(all_tools(desk), options["toolsets"], read_only=options["read_only"])
        found.append((desk(), options))
        return SimpleNamespace(run=lambda transport: transport)

    monkeypatch.setattr("fleet.mcp.server.server", server)
    return found


def test_an_agent_does_not_act_as_a_person_where_the_two_are_told_apart(
    tmp_path: Path, home: Path, served: list[tuple[Desk, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(builders.toml("web-1"))
    (tmp_path / "principals.toml").write_text(
        f'[principals.ann]\nkind = "person"\nusers = ["{getpass.getuser()}"]\n[principals.agent-3]\nkind = "agent"\n'
    )

    def refused(*words: str) -> str:
        assert run(["mcp", "--file", str(file), *words]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        return said.err

    assert "an agent would act as ann" in refused()
    assert "an agent would act as ann" in refused("--toolsets", "hosts")
    assert "nobody in" in refused("--as", "stranger")
    assert "no set" in refused("--as", "agent-3", "--toolsets", "everything")
    assert "no such key" in refused("--as", "agent-3", "--key", "nowhere")
    assert served == []
    for words in (["--read-only"], ["--as", "agent-3"]):
        assert run(["mcp", "--file", str(file), *words]) == 0
    assert [desk.principal for desk, _ in served] == ["", "agent-3"]
    assert [options["read_only"] for _, options in served] == [True, False]


def test_without_principals_whoever_starts_it_is_the_local_user(
    tmp_path: Path, home: Path, served: list[tuple[Desk, dict[str, Any]]]
) -> None:
    (tmp_path / "fleet.toml").write_text(builders.toml("web-1"))
    assert run(["mcp", "--file", str(tmp_path / "fleet.toml")]) == 0
    assert len(served) == 1


async def test_a_run_that_was_forgotten_since_has_not_failed(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    started = {"event": "run_started", "run": ID}
    ended = {"event": "run_finished", "run": ID, "exit_code": 0, "error": None, "hosts": [{"outcome": "kept"}]}
    past(tmp_path / "requests", ID.replace("1-", "2-"), f"{json.dumps(started)}\n{json.dumps(ended)}\n")
    async with agent(world) as someone:
        told = await someone.call("run", run=ID)
    assert (told["run"], told["state"], told["exit_code"]) == (ID, "finished", 0)
    assert told["foreign"]["outcomes"] == {"kept": 1}


@pytest.mark.parametrize("state", ["open", "cut_short", "finished"])
async def test_a_run_whose_process_was_lost_has_the_command_for_a_person(tmp_path: Path, state: str) -> None:
    world = World(tmp_path, "a")
    name, lost = HostName("a"), RunId(ID)
    events: list[Event] = [RunStarted(run=lost, verb="deploy", goal=Goal.SWITCH, hosts=(name,))]
    events += [PhaseStarted(host=name, phase=Phase.SWITCH)] if state == "open" else []
    events += [RunFinished(run=lost, exit_code=0, error=None, hosts=())] if state == "finished" else []
    with world.state.hold(lost), world.state.recorder(lost) as recorder:
        envelopes = Envelopes(lost, "ann")
        for event in events:
            recorder.record(envelopes.wrap(event))
        await recorder.flush()
    async with agent(world) as someone:
        told = await someone.call("run", run=ID)
    assert told["state"] == state
    assert ("human" in told) == (state == "open")
    assert state != "open" or complaint(told["human"]["command"]) is None


def test_secret_of_the_environment_reaches_what_an_agent_asks_for_and_no_argv(
    requests: Requests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken out of the environment of the server, and of whatever that starts otherwise."""
    monkeypatch.setenv("TOKEN", "value-\udcff")
    monkeypatch.setattr(secret_values, "_taken", {"OTHER": b"of another fleet"})
    monkeypatch.setattr("fleet.mcp.desk.state_folder", lambda _: tmp_path / "state")
    file = tmp_path / "fleet.toml"
    file.write_text(builders.toml("web-1", more='[hosts.web-1.secrets.token]\nenv = "TOKEN"'))
    secret_values.take_environment(load(file))
    assert "TOKEN" not in os.environ
    started: dict[str, Any] = {}
    monkeypatch.setattr("subprocess.Popen", lambda argv, **kept: started.update(argv=argv, **kept))
    desk = Desk(file=file)
    desk.requests(SimpleNamespace(inventory=load(file))).begin(describing(tmp_path), verb="deploy", by="agent-3")  # type: ignore[arg-type]
    module._under_way.clear()
    assert (started["env"]["TOKEN"], "OTHER" in started["env"]) == ("value-\udcff", False)
    assert "value" not in str(started["argv"])


def test_a_rollback_to_somewhere_else_is_another_request(requests: Requests, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "requests"
    old, new = past(folder, ID, "", verb="rollback"), past(folder, ID.replace("1-", "2-"), "", verb="rollback")
    about = {**new.about, "plan": "", "to": "41"}
    (new.folder / "request.json").write_text(json.dumps(about))
    (old.folder / "request.json").write_text(json.dumps({**old.about, "plan": ""}))  # of an older fleet
    locks = [acquire(one.folder / module.LOCK) for one in (old, new)]

    def alive(to: str) -> str:
        found = requests.alive(["a"], verb="rollback", to=to)
        return found.id if found else ""

    assert [alive(""), alive("41"), alive("40")] == [old.id, new.id, ""]
    for lock in locks:
        assert lock is not None
        release(lock)


async def test_a_rollback_says_where_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Requests, "_start", lambda self, folder, words: None)  # noqa: ARG005
    async with agent(World(tmp_path, "a")) as someone:
        await someone.call("rollback", hosts=["a"], intent="x", to="41", wait=0)
    (request,) = Requests(tmp_path / "requests", {}).all()
    assert request.about["to"] == "41"
