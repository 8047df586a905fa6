"""The files of a lab: what `up` writes, what people edited since, and what `down` may remove."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tomllib
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

from fleet.errors import ConfigError
from fleet.files import alone_in, replace_file, state_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_RECORD = ".lab.json"
_KINDS = {"laptop": "laptop", "gpu": "gpu", "pi": "pi"}
_HEAD = """\
# A disposable fleet. `fleet lab up` wrote this and keeps the ports right; all else is yours to edit.

[fleet]
name  = "{name}"
flake = "path:."

[defaults]
system  = "{system}"
address = "127.0.0.1"
user    = "root"             # deploy has passwordless sudo; operator has sudo with the password "operator"
identity_file = "keys/id_ed25519"
substitute = false
settle     = "1s"
"""
_HOST = """
[hosts.{host}]
kind = "{kind}"
port = {port}
host_key = "{host_key}"

[[hosts.{host}.checks]]
name = "web"
http = "http://127.0.0.1:8080/"
from = "host"
within = "10s"
"""
_CLOSURE = """\
# What runs on {host}. Change it and deploy; system.nix says all that can be said here.
{{
  version = "2";
  services.web.http = {{ port = 8080; body = "{host}, version 2"; }};
}}
"""


@dataclass(frozen=True)
class Folder:
    """The folder of a lab."""

    path: Path

    @property
    def inventory(self) -> Path:
        """Its fleet.toml."""
        return self.path / "fleet.toml"

    @property
    def name(self) -> str:
        """The name of the lab. No other folder of this machine has it."""
        return f"lab-{hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:8]}"

    @property
    def state(self) -> Path:
        """The folder with the runs of `fleet` on the lab."""
        return state_folder(self.name)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from changing this lab, while inside."""
        with ExitStack() as held:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                held.enter_context(alone_in(self.path))
            except OSError as error:
                raise ConfigError(f"{self.path}: cannot be the lab's folder: {error.strerror}") from error
            yield

    def hosts(self) -> dict[str, dict[str, Any]]:
        """Return the host tables of fleet.toml; none if the file does not exist."""
        try:
            document = tomllib.loads(self.inventory.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.inventory}: cannot be read: {error}") from error
        hosts = document.get("hosts", {})
        if not isinstance(hosts, dict) or not all(isinstance(table, dict) for table in hosts.values()):
            raise ConfigError(f"{self.inventory}: hosts is not a table of tables")
        return hosts

    def key(self, name: str) -> tuple[str, str]:
        """Return the private and the public half of the key with this name. Make the key if there is none."""
        private = self.path / "keys" / name
        public = private.with_name(f"{name}.pub")
        if not private.exists():
            secret, known = _new_key()
            self._write(f"keys/{name}", secret, mode=0o600)
            self._write(f"keys/{name}.pub", f"{known} {self.name}\n")
        return private.read_text(encoding="utf-8"), " ".join(public.read_text(encoding="utf-8").split()[:2])

    def write_flake(self) -> None:
        """Write the flake next to fleet.toml. Existing files stay as they are."""
        with as_file(files("fleet.lab") / "template") as template:
            for source in sorted(path for path in template.rglob("*") if path.is_file()):
                self._write_new(str(source.relative_to(template)), source.read_text(encoding="utf-8"))
        self._write_new(".gitignore", "*\n")  # a lab inside of a repository does not belong to it

    def write_busybox(self, program: bytes) -> None:
        """Write the builder of the closures to bin/."""
        if not (self.path / "bin" / "busybox").exists():
            self._write("bin/busybox", program, mode=0o755)

    def write_hosts(self, ports: dict[str, int], system: str) -> None:
        """Write each host with its port to fleet.toml, and its closure to hosts/NAME.nix.

        Change nothing else in them.
        """
        known = self.hosts()
        before = self.inventory.read_text(encoding="utf-8") if self.inventory.exists() else ""
        text = before or _HEAD.format(name=self.name, system=system)
        for host, port in ports.items():
            if host not in known:
                kind = _KINDS.get(re.split(r"[-.\d]", host)[0], "server")
                text += _HOST.format(host=host, kind=kind, port=port, host_key=self.key(host)[1])
            elif known[host].get("port") != port:
                text = self._with_port(text, host, port)
            self._write_new(f"hosts/{host}.nix", _CLOSURE.format(host=host))
        if text != before:
            self._write("fleet.toml", text, ours=not before or not self._edited("fleet.toml"))

    def write_vms(self, names: Sequence[str], linux: str) -> None:
        """Write vms.nix, which says which hosts are VMs and what their kernel is."""
        words = " ".join(f'"{name}"' for name in names)
        self._write("vms.nix", f"{{\n  hosts = [ {words} ];\n  linux = {linux};\n}}\n")

    def write_closure(self, host: str, text: str) -> None:
        """Write this text to hosts/NAME.nix."""
        self._write(f"hosts/{host}.nix", text)

    @property
    def is_lab(self) -> bool:
        """Whether `up` has written here."""
        return (self.path / _RECORD).is_file()

    def check_ours(self) -> None:
        """Raise `ConfigError` if the folder has a fleet that is not a lab."""
        if self.inventory.exists() and "fleet.toml" not in self._record():
            raise ConfigError(
                f"{self.inventory} was not written by fleet lab up",
                hint="--dir names another folder for the lab",
            )

    def remove(self) -> list[str]:
        """Remove what `up` wrote and the runs of this lab. Return the files that stay because people edited them."""
        record = self._record()
        if not record:
            return []
        shutil.rmtree(self.state, ignore_errors=True)
        for path in record:
            if not self._edited(path):
                (self.path / path).unlink(missing_ok=True)
        for path in ("flake.lock", _RECORD):
            (self.path / path).unlink(missing_ok=True)
        for folder in sorted({(self.path / path).parent for path in record} - {self.path}, reverse=True):
            _remove_empty(folder)  # a folder comes after those inside of it
        stay = sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*") if not path.is_dir())
        if not stay:
            _remove_empty(self.path)
        return stay

    def _with_port(self, text: str, host: str, port: int) -> str:
        """Return the text with this port in the host's table, and every other byte unchanged."""
        table = rf'(?ms)^(\s*\[\s*hosts\s*\.\s*"?{re.escape(host)}"?\s*\](?:(?!^\s*\[).)*?^\s*port\s*=\s*)\d+'
        after = re.sub(table, rf"\g<1>{port}", text, count=1)
        if tomllib.loads(after)["hosts"][host].get("port") == port:
            return after
        raise ConfigError(
            f"{self.inventory}: cannot write the new port of {host} without touching other lines",
            hint=f"write port = {port} into [hosts.{host}]",
        )

    def _write_new(self, path: str, text: str) -> None:
        if not (self.path / path).exists():
            self._write(path, text)

    def _write(self, path: str, content: str | bytes, *, mode: int = 0o644, ours: bool = True) -> None:
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        replace_file(file, data, mode=mode)
        if ours:
            record = self._record() | {path: hashlib.sha256(data).hexdigest()}
            (self.path / _RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def _record(self) -> dict[str, str]:
        """Return the files that `up` wrote, each with the hash of its contents then."""
        try:
            record = json.loads((self.path / _RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _edited(self, path: str) -> bool:
        try:
            return hashlib.sha256((self.path / path).read_bytes()).hexdigest() != self._record().get(path)
        except OSError:
            return False


def _remove_empty(folder: Path) -> None:
    """Remove the folder, unless it has something in it or is in use."""
    with suppress(OSError):
        folder.rmdir()


def _new_key() -> tuple[str, str]:
    """Return a new ed25519 key as OpenSSH writes it, private and public."""
    # cryptography comes with asyncssh, which may not be imported here. So no ssh-keygen is needed.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, each once.

    Raise `ConfigError` unless each can be the name of a host, a file and a container.
    """
    for name in names:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
            raise ConfigError(
                f"{name!r} cannot be the name of a lab host",
                hint="lower-case letters, digits and hyphens, at most 63, such as gpu-01",
            )
    return tuple(dict.fromkeys(names))
