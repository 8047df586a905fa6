"""Drives the `fleet` program on lab hosts, and asks the hosts themselves what became of it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
import tomli_w

from fleet.machine.patched import PLAIN
from tests.containers.files import SSHD_ANEW
from tests.containers.forked import Forked
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fleet.lab import Lab, LabHost, VmHost

FLEET = str(Path(sys.executable).with_name("fleet"))
PATIENCE = 120.0
_numbers = itertools.count(100)


def new_version() -> str:
    """A version that no closure of this test run has yet."""
    return str(next(_numbers))


def web(version: str, *, status: int = 200, more: str = "") -> str:
    """A lab system whose service on port 8080 answers its version."""
    http = f'{{ port = 8080; status = {status}; body = "version {version}"; }}'
    return f'{{ busybox }}: {{ version = "{version}"; services.web.http = {http}; {more} }}'


WEB = {"name": "web", "http": "http://127.0.0.1:8080/", "within": "3s", "interval": "200ms"}

BUSY = "/run/busy"
"""While the host has this file, the new system is not proven and not condemned, by GATE, or is not through, by SLOW."""
GATE = {"name": "gate", "command": f"test ! -e {BUSY}", "within": "50s", "interval": "100ms"}
SLOW = f'switchScript = "while test -e {BUSY}; do sleep 0.05; done";'


def wait_until(is_so: Callable[[], Any], what: str | Callable[[], str], patience: float = PATIENCE) -> Any:
    """What `is_so` gave when it was first true."""
    return until(is_so, within=patience, what=what)


@dataclass(repr=False)
class Run:
    """A `fleet` that runs, or ran."""

    process: subprocess.Popen[bytes] | Forked
    as_json: bool
    _out: list[bytes] = field(default_factory=list)
    _err: list[bytes] = field(default_factory=list)
    _readers: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        for pipe, lines in ((self.process.stdout, self._out), (self.process.stderr, self._err)):
            assert pipe is not None
            thread = threading.Thread(target=_drain, args=(pipe, lines), daemon=True)
            thread.start()
            self._readers.append(thread)

    def __repr__(self) -> str:
        """What a failed assertion shows."""
        said = f"{self.stdout[-4000:]}\n{self.stderr[-4000:]}"
        return f"<{self.process.returncode}, {self._errors()}, of {self.process.args!r}\n{said}>"

    def _errors(self) -> list[str]:
        """What went wrong on which host, as far as it is told: outputs that fail in CI are cut in their middle."""
        ended = self.told("host_finished") if self.as_json else []
        return [f"{one['host']}: {one['result']['error']['message']}" for one in ended if one["result"]["error"]]

    def end(self) -> Run:
        """It has ended."""
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"does not end:\n{self.stdout}\n{self.stderr}") from None
        for thread in self._readers:
            thread.join()
        if self.as_json:
            assert self.events[-1]["event"] == "run_finished", self.stdout
            assert self.events[-1]["exit_code"] == self.code, self.events[-1]
        return self

    @property
    def code(self) -> int:
        assert self.process.returncode is not None
        return self.process.returncode

    @property
    def stdout(self) -> str:
        return b"".join(self._out).decode()

    @property
    def stderr(self) -> str:
        return b"".join(self._err).decode()

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it has told so far: nothing but JSON is on its stdout."""
        return [json.loads(line) for line in list(self._out) if line.endswith(b"\n")]

    def told(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """The events of that name with these fields."""
        return [one for one in self.events if one["event"] == event and fields.items() <= one.items()]

    def wait_for(self, event: str, **fields: Any) -> dict[str, Any]:
        """The first such event."""
        ended = self.process.poll
        found = wait_until(lambda: self.told(event, **fields) or ended() is not None, f"{event} {fields}")
        if found is True:
            self.end()
            found = self.told(event, **fields)
        assert found, f"ended before {event}: {self._errors()}\n{self.stdout}\n{self.stderr}"
        return dict(found[0])

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    @property
    def error(self) -> dict[str, Any]:
        """What ended the run as a whole."""
        error = self.events[-1]["error"]
        assert error is not None
        return dict(error)

    @property
    def hosts(self) -> dict[str, dict[str, Any]]:
        """The result of each host."""
        return {host["name"]: host for host in self.events[-1]["hosts"]}

    @property
    def outcomes(self) -> dict[str, str]:
        return {name: host["outcome"] for name, host in self.hosts.items()}

    def failure(self, host: str) -> dict[str, Any]:
        """Why the host did not end well."""
        error = self.hosts[host]["error"]
        assert error is not None, self.hosts[host]
        return dict(error)


def _drain(pipe: IO[bytes], lines: list[bytes]) -> None:
    with pipe:
        lines.extend(iter(pipe.readline, b""))


@dataclass(repr=False)
class Stage:
    """A fleet.toml of one test for the hosts of a lab, and the `fleet` that is run beside it."""

    lab: Lab
    folder: Path
    home: Path
    flake: str = ""
    _started: list[Run] = field(default_factory=list)

    def host(self, name: str) -> LabHost:
        return self.lab.host(name)

    def write(self, name: str, nix: str) -> None:
        """What the next deployment puts on the host."""
        self.lab.write_host(name, nix)

    def toml(
        self, hosts: Mapping[str, Mapping[str, Any]], *, rollout: Mapping[str, Any] | None = None, **defaults: Any
    ) -> Path:
        """fleet.toml has these hosts, each with what it needs to be reached."""
        known = tomllib.loads(self.lab.folder.inventory.read_text())["hosts"]
        reach = {
            name: {"port": known[name]["port"], "host_key": known[name]["host_key"]} for name in hosts if name in known
        }
        document = {
            "fleet": {"name": "test", "flake": self.flake or f"path:{self.lab.folder.path}"},
            "defaults": {
                "address": "127.0.0.1",
                "identity_file": str(self.lab.folder.path / "keys/id_ed25519"),
                "substitute": False,
                "settle": "300ms",
                "confirm_timeout": "10s",
                **defaults,
            },
            "hosts": {
                name: {key: value for key, value in {**reach.get(name, {}), **table}.items() if value is not None}
                for name, table in hosts.items()
            },
            "rollout": rollout or {},
        }
        path = self.folder / "fleet.toml"
        path.write_text(tomli_w.dumps(document))
        return path

    @property
    def environment(self) -> dict[str, str]:
        ours = ("FLEET_", "SSH_", "XDG_")
        kept = {key: value for key, value in os.environ.items() if key == PLAIN or not key.startswith(ours)}
        extra = {} if Path("/etc/nix/nix.conf").exists() else {"NIX_CONFIG": "build-users-group ="}
        return {**kept, **extra, "HOME": str(self.home), "XDG_STATE_HOME": str(self.home / "state")}

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> Run:
        """`fleet` with these arguments, under way."""
        process = Forked(arguments, cwd=self.folder, env={**self.environment, **(env or {})})
        verbs = ("deploy", "push", "rollback", "resume", "reboot", "deliver")
        reports = arguments[0] in verbs or arguments[:2] in (("rollout", "continue"), ("pins", "update"))
        run = Run(process, as_json=reports and "--json" in arguments)
        self._started.append(run)
        return run

    def fleet(self, *arguments: str, env: Mapping[str, str] | None = None) -> Run:
        """`fleet` with these arguments, ended."""
        return self.start(*arguments, env=env).end()

    def deploy(self, *arguments: str, env: Mapping[str, str] | None = None) -> Run:
        """`fleet deploy --json --yes` with these arguments, ended."""
        return self.fleet("deploy", "--json", "--yes", *arguments, env=env)

    def document(self, *arguments: str, code: int | None = 0) -> Any:
        """The JSON document of a reading command; with `code` None whatever it thinks of the hosts."""
        run = self.fleet(*arguments, "--json")
        assert code is None or run.code == code, run.stderr
        return json.loads(run.stdout)

    def settle(self, name: str) -> LabHost:
        """The host is up and idle, and runs some healthy version."""
        host = self.host(name)
        host.power_on()
        host.exec("rm", "-f", BUSY)
        wait_until(lambda: not is_open(host), "no transaction is open")
        self.toml({name: {"checks": [WEB]}})
        if not answer(host).startswith("version"):
            self.write(name, web(new_version()))
            assert self.deploy(name).code == 0
        return host

    def begin(self, name: str, *, more: str = "", confirm: float) -> Run:
        """A deployment whose proof does not end while the host is busy; `confirm` is its `confirm_timeout`."""
        self.toml({name: {"checks": [WEB, GATE]}}, confirm_timeout=f"{confirm:g}s")
        self.write(name, web(new_version(), more=more))
        self.host(name).exec("touch", BUSY)
        return self.start("deploy", "--json", "--yes", name)

    def twin(self) -> Stage:
        """Another machine with a copy of what this one remembers."""
        home = self.folder / "twin"
        shutil.copytree(self.home, home)
        return dataclasses.replace(self, home=home, _started=self._started)

    def close(self) -> None:
        """Nothing that this test started is left."""
        for run in self._started:
            if run.process.poll() is None:
                run.process.kill()
            run.process.wait()
            for thread in run._readers:
                thread.join()


@pytest.fixture
def stage(lab: Lab, tmp_path: Path) -> Iterator[Stage]:
    """A stage on the module's `lab`."""
    home = tmp_path / "home"
    home.mkdir()
    stage = Stage(lab, tmp_path, home)
    yield stage
    stage.close()


# --- what a host itself says ---


def real(host: LabHost, path: str) -> str:
    """Where the path leads. Docker loses the output of an exec now and then: a command that succeeded has some."""
    found: str = wait_until(lambda: host.exec("readlink", "-f", path).stdout.strip(), f"{host.name} tells {path}")
    return found


def running(host: LabHost) -> str:
    return real(host, "/run/current-system")


def profile(host: LabHost) -> str:
    return real(host, "/nix/var/nix/profiles/system")


def boot_default(host: LabHost | VmHost) -> str:
    """The system that the boot loader's files name."""
    script = (
        'set -- $(sed -n "s/^default //p" /boot/loader/loader.conf); sed -n "s/^options //p" "/boot/loader/entries/$1"'
    )
    words = host.exec("sh", "-c", script).stdout.split()
    return next(word.removeprefix("init=").removesuffix("/init") for word in words if word.startswith("init="))


def stands_on(host: LabHost, closure: str) -> bool:
    """Whether it runs, keeps and boots this, with no transaction open."""
    places = {"running": running(host), "profile": profile(host), "boot default": boot_default(host)}
    elsewhere = {place: found for place, found in places.items() if found != closure}
    if is_open(host):
        elsewhere["open"] = host.exec("sh", "-c", "cd /run/fleet/open && cat run state", check=False).stdout
    if elsewhere:
        print(f"{host.name} does not stand on {closure}: {elsewhere}")  # shown where the test fails
    return not elsewhere


def is_open(host: LabHost) -> bool:
    return host.exec("test", "-e", "/run/fleet/open", check=False).status == 0


def answer(host: LabHost, port: int = 8080) -> str:
    """What the host's web service says, on the host."""
    asked = host.exec("busybox", "wget", "-q", "-O-", f"http://127.0.0.1:{port}/", check=False)
    return asked.stdout.strip()


def logins(host: LabHost) -> int:
    """How many connections were let in so far."""
    script = "journalctl -q -o cat -t sshd -t sshd-session -t sshd-auth | grep -c '^Accepted publickey '"
    return int(host.exec("sh", "-c", script, check=False).stdout or 0)


def tell_commands(host: LabHost) -> None:
    """From now on sshd tells the journal of every command that it runs."""
    verbose = f"echo LogLevel VERBOSE >/etc/ssh/sshd_config.d/verbose.conf && {SSHD_ANEW}"
    host.exec("sh", "-c", verbose)


def commands(host: LabHost) -> int:
    """How many commands sshd has run since `tell_commands`."""
    script = "journalctl -q -o cat -t sshd -t sshd-session | grep -c '^Starting session: command '"
    return int(host.exec("sh", "-c", script, check=False).stdout or 0)
