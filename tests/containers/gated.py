"""Lab hosts with a gate: with the very files that modules/gate.nix would give a NixOS host."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleet.host.program import source
from tests.containers.files import SSHD_ANEW, put, shell
from tests.containers.gate_client import APPROVAL, PLAN, Client, FidoKey, FileKey, Key, Offer, run_id
from tests.containers.hostprogram import PROFILE, Subject
from tests.containers.orders import AS_PLANNED
from tests.nixos_modules import ROOT, configured
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.lab import Lab, LabHost

FLEET = "0123456789abcdef"
WANTED = """{
  files = builtins.mapAttrs (_: file: file.text) config.environment.etc;
  keys = config.users.users.fleet.openssh.authorizedKeys.keys;
  sshd = config.services.openssh.extraConfig;
  sudo = config.security.sudo.extraRules;
  entry = config.services.fleet.gate.entry.text;
  trusted = config.nix.settings.trusted-public-keys;
}"""
SCRIPTS = f"scripts = import {ROOT}/fleet/host/gate/scripts.nix;"

INSTALL = f"""
mkdir -p /var/empty
id -u fleet >/dev/null 2>&1 || useradd --system --user-group --home-dir /var/empty --shell /bin/sh fleet
visudo -cqf /etc/sudoers.d/gate
sshd -t
{SSHD_ANEW}
"""


@dataclass
class People:
    """Who signs, each with a key of their own; ann's and bob's are FIDO keys, and `deploy` is the key that logs in."""

    folder: Path
    keys: dict[str, Key] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("deploy", "carl", "robot", "eve"):
            self.keys[name] = FileKey.new(self.folder, name)
        self.keys |= {"ann": FidoKey(), "bob": FidoKey(), "stranger": FidoKey()}

    @property
    def deploy(self) -> Path:
        key = self.keys["deploy"]
        assert isinstance(key, FileKey)
        return key.path

    def principals(self, **kinds: str) -> str:
        """The option `principals` with these people and their kinds."""
        rows = (
            f'{name} = {{ kind = "{kind}"; keys = [ {json.dumps(self.keys[name].public)} ]; }};'
            for name, kind in kinds.items()
        )
        return f"principals = {{ {' '.join(rows)} }};"


@dataclass
class Gated:
    """A lab host that runs a system with a gate."""

    subject: Subject
    people: People
    client: Client
    settings: str
    host_key: str
    program: str = ""
    running: str = ""
    found: dict[str, Any] = field(default_factory=dict)
    """What the module has made of the gate that the host has."""
    _manifests: dict[str, str] = field(default_factory=dict)
    _planned: list[str] = field(default_factory=list)
    """What a plan says of the host, until something begins there."""

    @classmethod
    def on(cls, lab: Lab, name: str, folder: Path, *, settings: str = "", kinds: dict[str, str] | None = None) -> Gated:
        """The host runs a system with this gate, which is its boot default too; root logs in no more."""
        subject, people = Subject.on(lab, name, folder), People(folder)
        client = Client(subject.host.port, people.deploy)
        fingerprint = subject.sh("ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key | cut -d ' ' -f 2")
        assert fingerprint.startswith("SHA256:")
        gated = cls(subject, people, client, settings, fingerprint)
        gated.program = cls.add_program(subject.host)
        gated.found = gated.module(kinds=kinds)
        cls.install_on(subject.host, gated.found)
        gated.running = subject.closure(gated.system("one"))
        switch = f"nix-env -p {PROFILE} --set {gated.running} && {gated.running}/bin/switch-to-configuration"
        subject.sh(f"{switch} boot && {gated.running}/bin/switch-to-configuration test")
        return gated

    def module(self, *, settings: str = "", kinds: dict[str, str] | None = None, host: str = "") -> dict[str, Any]:
        """What the module makes of the settings."""
        kinds = kinds or {"ann": "person", "bob": "person", "carl": "person", "robot": "agent"}
        deploy = json.dumps(self.people.keys["deploy"].public)
        base = f'fleet = "{FLEET}"; host = "{host or self.subject.host.name}"; program = "{self.program}";'
        people = self.people.principals(**kinds)
        own = f"{base} authorizedKeys = [ {deploy} ]; {SCRIPTS} {settings or self.settings} {people}"
        return configured_gate(own)

    @staticmethod
    def add_program(host: LabHost) -> str:
        """The host program is in the host's store, as it comes with a closure. Return where."""
        script = (
            "d=$(mktemp -d) && cat >$d/fleet-host && chmod 755 $d/fleet-host && nix-store --add $d/fleet-host; rm -r $d"
        )
        argv = ["docker", "exec", "-i", host.container.name, "sh", "-c", script]
        done = subprocess.run(argv, input=source().encode(), check=True, timeout=60, capture_output=True)
        return done.stdout.decode().strip()

    @staticmethod
    def install_on(host: LabHost, found: dict[str, Any]) -> None:
        """Give the host what NixOS writes outside of a system's etc/fleet: users, sudoers, sshd's configuration."""
        put(host, "/opt/fleet-gate", found["entry"], mode="755")
        put(host, "/etc/ssh/authorized_keys.d/fleet", "".join(f"{line}\n" for line in found["keys"]), mode="644")
        put(host, "/etc/ssh/sshd_config.d/gate.conf", found["sshd"])
        for rule in found["sudo"]:
            (command,) = rule["commands"]
            (user,) = rule["users"]
            text = f"{user} {rule['host']}=({rule['runAs']}) {':'.join(command['options'])}: {command['command']}\n"
            put(host, "/etc/sudoers.d/gate", text, mode="440")
        shell(host, INSTALL)

    def system(self, version: str, found: dict[str, Any] | None = None, more: str = "") -> str:
        """The configuration of a lab system with this gate, or with the one that the host has."""
        files = nix_files(found or self.found)
        body = f'version = "{version}"; services.web.http = {{ port = 8080; body = "{version}"; }}; {more}'
        return f"{body}\n{files}"

    def manifest(self, new: str) -> str:
        """The lines of the closure's manifest, as whoever builds has them."""
        if new not in self._manifests:
            listed = "cd /tmp && nix-store -qR $0 | LC_ALL=C sort >paths"
            hashed = "xargs nix-store -q --hash <paths | paste -d ' ' paths -; rm -f paths"
            lines = self.subject.feed(b"", "sh", "-c", f"{listed} && {hashed}", new)
            self._manifests[new] = f"{lines}\n"
        return self._manifests[new]

    def offer(self, new: str, **changes: str) -> Offer:
        """An order for this closure that only lacks signatures. The changes are of the lines of its part."""
        from hashlib import sha256

        if not self._planned:
            self._planned = self.subject.sh(AS_PLANNED).splitlines()
        running, link, serial = self._planned
        now = int(time.time())
        part = {
            "host": f"{self.subject.host.name} {self.host_key}", "new": new, "drv": "-", "build": "controller",
            "manifest": sha256(self.manifest(new).encode()).hexdigest(), "expected": running, "link": link,
            "serial": serial, "action": "switch", "goal": "switch", "activation": "30", "confirm": "30", "boot": "30",
            "settle": "1", "watch": "0", "checks": "decide", "risk": "no", "force": "no", "retry": "no",
            "last_resort": "-", "offline": "fail", "substitute": "yes", "copy_with": "serve", "reboot": "-",
            "forecast": "{}", "expires": str(now + 3600),
        } | changes  # fmt: skip
        plan = {
            "fleet": f"home {FLEET}", "by": "robot", "verb": "deploy", "goal": "switch", "made": str(now),
            "expires": str(now + 3600), "source": "git+ssh://x rev 1f3c clean", "intent": "update", "ledger": "-",
            "at_once": "1", "push_at_once": "0", "max_failures": "0", "all_or_nothing": "no",
            "waves": self.subject.host.name,
        }  # fmt: skip
        order = {"run": run_id(), "from": "lair", "by": "eve", "intent": "x", "source": "-", "plan": "-", "ledger": "-"}
        return Offer(part, plan, order)

    def signed(self, offer: Offer, *approvers: str, author: str = "") -> Offer:
        """The offer, signed by robot, whoever it says has made it, or by its author; and approved by these people."""
        keys = self.people.keys
        if author:
            offer.plan["by"] = author
        return offer.sign((keys[author or "robot"], PLAN), *((keys[name], APPROVAL) for name in approvers))

    def forget(self) -> None:
        """Somebody has changed the host, or has made plans for it worthless."""
        self._planned = []

    def begin(self, offer: Offer) -> None:
        """Begin it, and return when it is on trial."""
        begun = self.client.begin(offer)
        self.forget()
        assert begun.get("begun") == offer.order["run"], begun
        self.follow(offer, "switched")

    def deploy(self, offer: Offer, word: str = "confirm") -> str:
        """Begin it, leave the word, and return the state that it ended in."""
        self.begin(offer)
        self.client.ask(f"1 word {offer.order['run']} {word.replace(' ', '%20')}")
        return self.follow(offer, "committed", "tested", "reverted", "stuck", "superseded")

    def follow(self, offer: Offer, *states: str) -> str:
        """The state, as soon as it is one of these."""
        run = offer.order["run"]
        until(lambda: self.client.ask(f"1 show {run}").get("state") in states, within=60, what=f"{run}: {states}")
        return self.client.ask(f"1 show {run}")["state"]


def configured_gate(settings: str) -> dict[str, Any]:
    """What the module makes of these settings."""
    found: dict[str, Any] = configured(
        ("gate",), f"{{ services.fleet.gate = {{ enable = true; {settings} }}; }}", WANTED
    )
    return found


def nix_files(found: dict[str, Any]) -> str:
    """The part of a lab system's configuration that has the files of this gate."""
    rows = sorted(found["files"].items())
    return "".join(f'files."etc/{name}" = {_nix_string(text)};\n' for name, text in rows)


def _nix_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("${", "\\${")
