"""A client of a host's gate that shares no code with fleet: its own texts, its own signatures, OpenSSH's own `ssh`.

It plays whoever has stolen the key that deploys, so it may send whatever it likes.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import struct
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.tools import new_key

if TYPE_CHECKING:
    from pathlib import Path

PLAN, APPROVAL = "fleet-plan@v1", "fleet-approval@v1"


def run_id() -> str:
    """A run that nobody has named yet."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


@dataclass(frozen=True)
class FileKey:
    """An SSH key in a file, that ssh-keygen signs with."""

    path: Path

    @classmethod
    def new(cls, folder: Path, name: str, kind: str = "ed25519") -> FileKey:
        return cls(new_key(folder / name, kind=kind))

    @property
    def public(self) -> str:
        return " ".join(self.path.with_name(f"{self.path.name}.pub").read_text().split()[:2])

    def sign(self, text: str, namespace: str) -> str:
        """A signature over the text as base64 on one line."""
        argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(self.path)]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True, timeout=60)
        return "".join(done.stdout.splitlines()[1:-1])


@dataclass
class FidoKey:
    """An sk-ssh-ed25519 key in software, whose touch flag is what it is told (PROTOCOL.u2f, PROTOCOL.sshsig)."""

    flags: int = 1
    application: bytes = b"ssh:"
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def _blob(self) -> bytes:
        point = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return _string(b"sk-ssh-ed25519@openssh.com") + _string(point) + _string(self.application)

    @property
    def public(self) -> str:
        return f"sk-ssh-ed25519@openssh.com {base64.b64encode(self._blob).decode()}"

    def sign(self, text: str, namespace: str) -> str:
        head = _string(namespace.encode()) + _string(b"") + _string(b"sha512")
        signed = b"SSHSIG" + head + _string(hashlib.sha512(text.encode()).digest())
        state = bytes([self.flags]) + struct.pack(">I", 7)
        asked = hashlib.sha256(self.application).digest() + state + hashlib.sha256(signed).digest()
        signature = _string(b"sk-ssh-ed25519@openssh.com") + _string(self.private.sign(asked)) + state
        blob = b"SSHSIG" + struct.pack(">I", 1) + _string(self._blob) + head + _string(signature)
        return base64.b64encode(blob).decode()


Key = FileKey | FidoKey


@dataclass
class Offer:
    """An order that is as it should be, until somebody changes it."""

    part: dict[str, str]
    """The lines of the part. A key that ends with a number repeats the one before it."""
    plan: dict[str, str]
    order: dict[str, str]
    signatures: list[str] = field(default_factory=list)
    manifest: str = ""
    part_title: str = "fleet-part v1"

    @property
    def part_text(self) -> str:
        return _lines(self.part_title, self.part)

    def host_line(self) -> None:
        """Let the plan name this very part."""
        self.plan["host"] = f"{self.part['host'].split()[0]} {sha256(self.part_text)}"

    @property
    def head(self) -> str:
        return _lines("fleet-plan v1", self.plan)

    def sign(self, *keys: tuple[Key, str]) -> Offer:
        """Let the plan name the part and the order the plan, and let these keys sign it."""
        self.host_line()
        self.order["plan"] = sha256(self.head)
        self.signatures = [key.sign(self.head, namespace) for key, namespace in keys]
        return self

    @property
    def text(self) -> str:
        text = _lines("fleet-order v1", self.order) + self.part_text
        if self.signatures:
            text += self.head + "fleet-signatures v1\n" + "".join(f"signature {one}\n" for one in self.signatures)
        if self.manifest:
            text += f"fleet-manifest v1\n{self.manifest}"
        return f"{text}end\n"


def _lines(title: str, values: dict[str, str]) -> str:
    return "".join(
        f"{line}\n" for line in (title, *(f"{key.rstrip('0123456789')} {value}" for key, value in values.items()))
    )


@dataclass(frozen=True)
class Client:
    """Somebody with a key that opens the gate, at the sshd of a host."""

    port: int
    key: Path
    user: str = "fleet"

    def ssh(
        self, *words: str, flags: tuple[str, ...] = (), stdin: str = "", patience: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """What `ssh` made of asking for these words. Its own configuration says nothing."""
        argv = ["ssh", "-F", "none", "-i", str(self.key), "-p", str(self.port), "-o", "IdentitiesOnly=yes"]
        argv += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        argv += ["-o", "BatchMode=yes", *flags, f"{self.user}@127.0.0.1", *words]
        return subprocess.run(
            argv, input=stdin, capture_output=True, text=True, check=False, timeout=patience, errors="replace"
        )

    def ask(self, line: str, stdin: str = "") -> dict[str, str]:
        """The answer of the gate to a line: the last value of each key."""
        done = self.ssh(line, stdin=stdin)
        rows = (row.partition("=") for row in done.stdout.splitlines())
        return {key: value for key, _, value in rows} | {"stderr": done.stderr.strip()}

    def begin(self, offer: Offer) -> dict[str, str]:
        return self.ask("1 begin", offer.text)
