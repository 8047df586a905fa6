"""Three agents and a person change one fleet: `make demo-agents`. Everything is real; only the agents are scripts.

Each has a clone of the repository, a home and an SSH key of their own. What they share is the forge, a bare repository,
and the hosts. `shop` has a gate: it looks at signatures itself. `web` is a host like any other.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from fleet.lab import Lab
from fleet.signing.keygen import read_public
from tests.containers.files import put, shell
from tests.containers.gated import FLEET, SCRIPTS, Gated, configured_gate, nix_files
from tests.tools import new_key

FLEET_PROGRAM = str(Path(sys.executable).with_name("fleet"))
POLICY = """\
[protected]
remote = "{forge}"
branches = ["main"]

[[agents]]
name = "agents on the shop"
hosts = "shop"
intent = true
"""

CLOSE = """
echo 'PermitRootLogin no' >/etc/ssh/sshd_config.d/closed.conf
rm -f /home/*/.ssh/authorized_keys
systemctl reload ssh
"""


def say(text: str) -> None:
    print(f"\n\033[1m# {text}\033[0m", flush=True)


@dataclass(frozen=True)
class Party:
    """Somebody with a clone, a home and a key."""

    folder: Path
    name: str

    @property
    def clone(self) -> Path:
        return self.folder / self.name / "fleet"

    @property
    def key(self) -> Path:
        return self.folder / self.name / ".ssh" / "id_ed25519"

    def _environment(self) -> dict[str, str]:
        home = self.folder / self.name
        ours = {"HOME": str(home), "XDG_STATE_HOME": f"{home}/state", "XDG_CACHE_HOME": f"{home}/cache"}
        who = {} if self.name == "ann" else {"FLEET_PRINCIPAL": self.name}
        return {**os.environ, **ours, **who, "NIX_CONFIG": "experimental-features = nix-command flakes\nsubstituters ="}

    def git(self, *words: str) -> None:
        argv = ["git", "-c", f"user.name={self.name}", "-c", f"user.email={self.name}@fleet", *words]
        subprocess.run(argv, cwd=self.clone, check=True, capture_output=True, env=self._environment())

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """`fleet` with these words, whose output is kept until `end`."""
        print(f"\033[1m{self.name}$ fleet {shlex.join(words)}\033[0m", flush=True)
        return subprocess.Popen(
            [FLEET_PROGRAM, *words], cwd=self.clone, env=self._environment(), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def end(self, process: subprocess.Popen[str], *, code: int = 0) -> str:
        """Show what it has said, and require that it ends like this."""
        said, _ = process.communicate(timeout=300)
        print("".join(f"  {line}\n" for line in said.splitlines()), end="", flush=True)
        if process.returncode != code:
            raise SystemExit(f"demo-agents: exit code {process.returncode}, and {code} was expected")
        return said

    def fleet(self, *words: str, code: int = 0) -> str:
        return self.end(self.begin(*words), code=code)

    def propose(self, host: str, text: str, why: str) -> None:
        """Commit what the host is to run, and push it to a branch of the forge: nobody has merged it."""
        (self.clone / "hosts" / f"{host}.nix").write_text(text)
        self.git("commit", "--quiet", "--all", "--message", why)
        self.git("push", "--quiet", "origin", f"HEAD:{self.name}")


class Demo:
    """The fleet, and everybody who changes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lab = Lab.up(folder / "lab", ["shop", "web"], say=say)
        self.ann = Party(folder, "ann")
        self.agents = [Party(folder, f"agent-{number}") for number in (1, 2, 3)]
        self.shop = self.lab.host("shop")
        for one in (self.ann, *self.agents):
            (folder / one.name / ".ssh").mkdir(parents=True)
            for path in (one.key, *([folder / "deploy"] if one is self.ann else [])):
                new_key(path)
        argv = ["nix-store", "--generate-binary-cache-key", "store-1", "store-key", "store-key.pub"]
        subprocess.run(argv, cwd=folder, check=True)
        self.gate = self._gate()
        self._repository()

    def _gate(self) -> dict[str, Any]:
        """What modules/gate.nix makes for the shop: ann alone approves."""
        principals = {
            "ann": {"kind": "person", "users": ["root"], "keys": [str(read_public(self.ann.key))]},
            **{one.name: {"kind": "agent", "keys": [str(read_public(one.key))]} for one in self.agents},
        }
        (self.folder / "principals.toml").write_text(tomli_w.dumps({"principals": principals}))
        store_key = (self.folder / "store-key.pub").read_text().strip()
        for host in self.lab.hosts:
            put(host, "/etc/nix/nix.custom.conf", f"extra-trusted-public-keys = {store_key}\n")
            shell(host, "echo '!include nix.custom.conf' >>/etc/nix/nix.conf; systemctl restart nix-daemon")
        return configured_gate(
            f'fleet = "{FLEET}"; host = "shop"; program = "{Gated.add_program(self.shop)}"; {SCRIPTS}'
            f"authorizedKeys = [ {json.dumps(str(read_public(self.folder / 'deploy')))} ];"
            f"principals = (builtins.fromTOML (builtins.readFile {self.folder}/principals.toml)).principals;"
            f'pushKeys = [ "{store_key}" ]; permitOpen = [ "127.0.0.1:8080" ];'
        )

    def _repository(self) -> None:
        """The forge has the fleet, and everybody a clone of it."""
        forge = self.folder / "forge.git"
        subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", str(forge)], check=True)
        shutil.copytree(self.lab.folder.path, self.ann.clone, ignore=shutil.ignore_patterns("keys", ".*"))
        shutil.copy(self.folder / "principals.toml", self.ann.clone)
        (self.ann.clone / "policy.toml").write_text(POLICY.format(forge=f"file://{forge}"))
        for host in ("shop", "web"):
            (self.ann.clone / "hosts" / f"{host}.nix").write_text(self.system(host, "0"))
        self.ann.git("init", "-q", "--initial-branch=main")
        self.ann.git("remote", "add", "origin", str(forge))
        self.write_inventory(is_gated=False)
        for agent in self.agents:
            agent.clone.parent.mkdir(exist_ok=True)
            subprocess.run(["git", "clone", "-q", str(forge), str(agent.clone)], check=True)

    def write_inventory(self, *, is_gated: bool) -> None:
        known = tomllib.loads(self.lab.folder.inventory.read_text())
        hosts = known["hosts"]
        if is_gated:
            hosts["shop"] |= {"user": "fleet", "gate": True, "identity_file": str(self.folder / "deploy")}
        check = {"name": "answers", "http": "http://127.0.0.1:8080/", "within": "5s"}
        document = {
            **known,
            "fleet": {"name": "demo", "id": FLEET, "flake": ".", "signing_key": str(self.folder / "store-key")},
            "defaults": {
                **known.get("defaults", {}),
                "identity_file": str(self.lab.folder.path / "keys" / "id_ed25519"),
                "checks": [check],
                "settle": "1s",
                "substitute": False,
            },
        }
        (self.ann.clone / "fleet.toml").write_text(tomli_w.dumps(document))
        self.ann.git("add", "--all")
        self.ann.git("commit", "-q", "--message", "the fleet")
        self.ann.git("push", "-q", "origin", "HEAD:main")

    def system(self, host: str, version: str) -> str:
        files = nix_files(self.gate) if host == "shop" else ""
        http = f'{{ port = 8080; body = "{host}, version {version}"; }}'
        return f'{{ busybox }}: {{ version = "{version}"; services.web.http = {http}; {files} }}\n'

    def plan(self, agent: Party, *more: str) -> str:
        """The agent's signed plan for the shop."""
        file = str(self.folder / f"{agent.name}.plan")
        why = f"what {agent.name} was asked for"
        agent.fleet("plan", "shop", "--sign", "--key", str(agent.key), "--intent", why, "-o", file, *more)
        return file

    def run(self) -> None:
        one, two, three = self.agents
        say("ann gives the shop its gate: from then on the host itself wants signatures")
        Gated.install_on(self.shop, self.gate)
        self.ann.fleet("deploy", "--all", "--yes")
        self.write_inventory(is_gated=True)
        self.ann.fleet("check")
        say("check names what would get round the gate, and ann closes that: nobody else becomes root there")
        shell(self.shop, CLOSE)
        self.ann.fleet("check")
        for agent in self.agents:
            agent.git("pull", "--quiet", "--ff-only", "origin", "main")

        say("agent-1 and agent-2 deploy to web at the same time, from two machines: one waits for its turn")
        for agent, version in ((one, "1"), (two, "2")):
            agent.propose("web", self.system("web", version), f"web {version}")
        words = ("deploy", "web", "--yes", "--wait", "2m", "--intent", "a newer web")
        for agent, process in [(agent, agent.begin(*words)) for agent in (one, two)]:
            agent.end(process)
        one.fleet("history", "web")

        say("Both propose a change of the shop. Agents may plan there, and nothing else")
        one.propose("shop", self.system("shop", "1"), "shop 1")
        first = self.plan(one)
        two.propose("shop", self.system("shop", "2"), "shop 2")
        second = self.plan(two)
        one.fleet("apply", first, "--yes", code=2)

        say("ann looks at both on her own machine, which believes nothing of them, and approves")
        for file in (first, second):
            self.ann.fleet("approve", file, "--yes")

        say("What was approved is deployed; the other plan is stale by then, and is told what has happened")
        one.fleet("apply", first, "--yes")
        two.fleet("apply", second, "--yes", code=1)

        say("So agent-2 amends its plan: the same system, on top of what is there now. ann approves that too")
        amended = self.plan(two, "--amend", second)
        self.ann.fleet("approve", amended, "--yes")
        two.fleet("apply", amended, "--yes")

        say(
            "agent-3 has the key that deploys, drops policy and gate from its own files, and deploys what nobody signed"
        )
        (three.clone / "policy.toml").unlink()
        (three.clone / "principals.toml").unlink()
        inventory = (three.clone / "fleet.toml").read_text().replace("gate = true\n", "")
        (three.clone / "fleet.toml").write_text(inventory)
        three.fleet("deploy", "shop", "--yes", code=1)
        if self.ann.fleet("status", "shop").count("2") == 0:
            raise SystemExit("demo-agents: the shop does not run version 2 any more")

        say("The ledger of agent-2's machine has all that was done from there")
        two.fleet("ledger", "show")
        two.fleet("ledger", "verify")
        say("Somebody changes one entry, and verify names it")
        tamper(self.folder / two.name / "state")
        two.fleet("ledger", "verify", code=1)

        say("Where everything stands")
        self.ann.fleet("status")


def tamper(state: Path) -> None:
    """Change who has made the third entry of the ledger in this state."""
    (database,) = state.rglob("*.db")
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE ledger SET line = replace(line, 'agent-2', 'agent-1') WHERE entry = 3")
    connection.close()


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    _remove(folder)
    folder.mkdir()
    try:
        Demo(folder).run()
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    if (folder / "lab").exists():
        Lab.find(folder / "lab").down()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
