"""Let ssh-keygen make signatures and verify them. It speaks to agents and FIDO devices, and asks people for a touch."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import ConfigError
from fleet.files import read_file
from fleet.signing import APPROVAL, PLAN
from fleet.signing.keys import PublicKey
from fleet.signing.sshsig import LARGEST, Signature

if TYPE_CHECKING:
    from collections.abc import Iterable

PATIENCE = 60.0
"""Seconds in which ssh-keygen verifies a signature."""
MISSING = "there is no ssh-keygen on PATH"
INSTALL = "install an OpenSSH client"


def allowed_signers(signers: Iterable[tuple[str, PublicKey, bool]]) -> str:
    """Return the file that says whose signatures count, from names, keys, and whether each may approve.

    Every line has its namespaces: without them ssh-keygen takes a signature that was made for git. Names are literal,
    which theirs are by what principals.toml lets them have. Raise `ValueError` if a key has two names.
    """
    lines, names = [], dict[bytes, str]()
    for name, key, may_approve in signers:
        if set(name) & set('*?!," \t\n') or name.startswith("#"):
            raise ValueError(f"{name!r} is a pattern, and no name")
        if names.setdefault(key.identity, name) != name:
            raise ValueError(f"{name} and {names[key.identity]} share a key")
        namespaces = f"{PLAN},{APPROVAL}" if may_approve else PLAN
        lines.append(f'{name} namespaces="{namespaces}" {key}\n')
    return "".join(lines)


def verify(text: str, signature: Signature, *, name: str, allowed: str) -> bool:
    """Return whether the signature is one by `name` over the text, of its own namespace, by a key that is `allowed`.

    The caller has decided that this namespace is wanted. Blocks: call it in a thread. Raise `ConfigError` if there is
    no ssh-keygen here.
    """
    with tempfile.TemporaryDirectory(prefix="fleet-verify-") as folder:
        signers, armour, signed = (Path(folder, part) for part in ("allowed_signers", "signature", "text"))
        signers.write_text(allowed, encoding="ascii")
        armour.write_text(signature.armour, encoding="ascii")
        signed.write_bytes(text.encode("ascii"))
        argv = ["ssh-keygen", "-Y", "verify", "-n", signature.namespace]
        try:
            with signed.open("rb") as stdin:
                done = subprocess.run(
                    [*argv, "-f", str(signers), "-I", name, "-s", str(armour)],
                    stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=PATIENCE,
                )  # fmt: skip
        except FileNotFoundError:
            raise ConfigError(MISSING, hint=INSTALL) from None
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0


def sign(text: str, *, namespace: str, key: Path) -> Signature:
    """Return a signature over the text by the key in the file, or, if that is a public key, by an agent that has it.

    ssh-keygen talks to the person at the terminal: about a passphrase, or a touch. Raise `ConfigError` if there is no
    signature in the end.
    """
    with tempfile.TemporaryDirectory(prefix="fleet-sign-") as folder:
        signed = Path(folder, "text")
        signed.write_bytes(text.encode("ascii"))
        argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key), str(signed)]
        try:
            done = subprocess.run(argv, check=False, stdout=subprocess.DEVNULL)
        except FileNotFoundError:
            raise ConfigError(MISSING, hint=INSTALL) from None
        try:
            return Signature.from_armour(read_file(Path(folder, "text.sig"), most=2 * LARGEST).decode("ascii"))
        except (OSError, ValueError) as error:
            hint = "it takes a private key, or a public key that ssh-agent has: ssh-add -L lists those"
            status = done.returncode
            raise ConfigError(
                f"{key}: ssh-keygen (exit status {status}) made no signature: {error}", hint=hint
            ) from None


def read_public(key: Path) -> PublicKey:
    """Return the public half of the key in the file: of the file itself, or of the one beside it that ends with `.pub`.

    Raise `ConfigError` if there is none.
    """
    for place in (key, key.with_name(f"{key.name}.pub")):
        try:
            return PublicKey.parse(read_file(place, most=LARGEST).decode("ascii").strip())
        except (OSError, ValueError):
            continue
    hint = f"ssh-keygen -y -f {key} > {key}.pub writes it; for a key in ssh-agent, ssh-add -L shows it"
    raise ConfigError(f"{key}: there is no public key, here or in {key}.pub", hint=hint)


def in_agent() -> list[PublicKey]:
    """Return the keys that the agent of this process has; none if there is no agent."""
    with tempfile.TemporaryFile() as listed:
        try:
            argv = ["ssh-add", "-L"]
            subprocess.run(argv, stdout=listed, stderr=subprocess.DEVNULL, check=False, timeout=PATIENCE)
        except (FileNotFoundError, subprocess.TimeoutExpired):
            return []
        listed.seek(0)
        lines = listed.read(LARGEST * 16).decode("ascii", errors="replace").splitlines()
    found = []
    for line in lines:
        try:
            found.append(PublicKey.parse(line))
        except ValueError:  # a certificate, or "The agent has no identities."
            continue
    return found
