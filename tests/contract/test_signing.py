"""Signatures as the real ssh-keygen makes them and judges them."""

from __future__ import annotations

import base64
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from fleet.errors import ConfigError
from fleet.library.signatures import add_signatures, beside, forget_earlier, read_signatures
from fleet.signing import APPROVAL, PLAN, PublicKey, Signature, bundle
from fleet.signing.keygen import allowed_signers, in_agent, read_public, sign, verify
from fleet.signing.wire import string
from tests.signer import Device
from tests.tools import new_key
from tests.unit import builders

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here")
TEXT = "fleet-plan v1\nfleet home 6f1c6f1c\n"
KINDS = {"ed25519": (), "ecdsa": ("-b", "384"), "rsa": ("-b", "2048")}


def make_key(folder: Path, kind: str = "ed25519", name: str = "key") -> Path:
    return new_key(folder / name, *KINDS[kind], "-C", "ann at home", kind=kind)


def allowed(*keys: PublicKey) -> str:
    return allowed_signers(("ann", key, True) for key in keys)


@pytest.mark.parametrize("kind", KINDS)
def test_signature_by_a_key_is_taken_apart_and_is_good(tmp_path: Path, kind: str) -> None:
    key = make_key(tmp_path, kind)
    signature = sign(TEXT, namespace=PLAN, key=key)
    assert (signature.key, signature.namespace, signature.flags) == (read_public(key), PLAN, None)
    assert not signature.is_touched
    assert Signature.parse(signature.line) == Signature.from_armour(signature.armour) == signature
    assert verify(TEXT, signature, name="ann", allowed=allowed(signature.key))
    assert not verify(TEXT + "x", signature, name="ann", allowed=allowed(signature.key))
    assert not verify(TEXT, signature, name="bob", allowed=allowed(signature.key))
    assert not verify(TEXT, signature, name="ann", allowed=allowed(read_public(make_key(tmp_path, name="other"))))


def test_fingerprint_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    told = subprocess.run(["ssh-keygen", "-lf", str(key)], check=True, capture_output=True, text=True).stdout
    assert read_public(key).fingerprint == told.split()[1]


@pytest.mark.parametrize("flags", [0, 1, 4, 5])
def test_ssh_keygen_takes_a_fido_signature_without_a_touch_and_we_see_it(flags: int) -> None:
    device = Device()
    signature = device.sign(TEXT, APPROVAL, flags=flags)
    assert verify(TEXT, signature, name="ann", allowed=allowed(device.public))
    assert signature.is_touched is bool(flags & 1)


def test_flag_that_was_set_afterwards_makes_the_signature_bad() -> None:
    device = Device()
    signature = device.sign(TEXT, APPROVAL, flags=0)
    forged = Signature.of(signature.blob[:-5] + b"\x01" + signature.blob[-4:])
    assert forged.is_touched
    assert not verify(TEXT, forged, name="ann", allowed=allowed(device.public))


def test_signature_of_another_namespace_is_not_good_for_ours() -> None:
    """Nor is one for git: asyncssh's own check takes it, where the line has no namespaces."""
    device = Device()
    for made in ("git", "file", "fleet-approval@v2"):
        assert not verify(TEXT, device.sign(TEXT, made), name="ann", allowed=allowed(device.public))
    agents = allowed_signers([("agent-3", device.public, False)])
    assert verify(TEXT, device.sign(TEXT, PLAN), name="agent-3", allowed=agents)
    assert not verify(TEXT, device.sign(TEXT, APPROVAL), name="agent-3", allowed=agents)


def test_every_line_of_allowed_signers_has_its_namespaces() -> None:
    lines = allowed_signers([("ann", Device().public, True), ("agent-3", Device().public, False)]).splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ann", f'namespaces="{PLAN},{APPROVAL}"'],
        ["agent-3", f'namespaces="{PLAN}"'],
    ]


def test_no_key_has_two_names_and_no_name_is_a_pattern() -> None:
    device = Device()
    with pytest.raises(ValueError, match="bob and ann share a key"):
        allowed_signers([("ann", device.public, True), ("bob", device.public, True)])
    other = Device(application=b"ssh:work", private=device.private)
    with pytest.raises(ValueError, match="bob and ann share a key"):
        allowed_signers([("ann", device.public, True), ("bob", other.public, True)])
    for name in ("*", "a?n", "!ann", "ann,bob", "ann bob"):
        with pytest.raises(ValueError, match="is a pattern"):
            allowed_signers([(name, device.public, True)])


def test_two_armours_are_no_signature() -> None:
    """ssh-keygen would take the first of them."""
    armour = Device().sign(TEXT, PLAN).armour
    with pytest.raises(ValueError, match="expected -----BEGIN"):
        Signature.from_armour(armour + armour)


@pytest.mark.parametrize("cut", [0, 3, 6, 10, 40, 100, -1, -5])
def test_signature_that_was_cut_is_none(cut: int) -> None:
    blob = Device().sign(TEXT, PLAN).blob
    with pytest.raises(ValueError, match="no SSH signature"):
        Signature.of(blob[:cut])
    with pytest.raises(ValueError, match="no SSH signature"):
        Signature.of(blob + b"\0")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "expected a public key"),
        ("ssh-ed25519", "expected a public key"),
        ("ssh-ed25519 AAAA", "cannot be read"),
        ("restrict ssh-ed25519 AAAA", "expected a public key"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "is no kind of key that can sign here"),
        ("ssh-dss AAAA", "is no kind of key that can sign here"),
    ],
)
def test_line_that_is_no_key_is_refused_with_the_reason(line: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        PublicKey.parse(line)


def spelled(*parts: bytes) -> str:
    return base64.b64encode(b"".join(map(string, parts))).decode()


def test_second_spelling_of_a_key_is_refused() -> None:
    exponent, modulus = b"\x01\x00\x01", b"\x00" + b"\xff" * 256
    assert PublicKey.parse(f"ssh-rsa {spelled(b'ssh-rsa', exponent, modulus)}").kind == "ssh-rsa"
    for other in ((b"\x00" + exponent, modulus), (exponent, b"\x00" + modulus), (exponent, b"\xff" * 256)):
        with pytest.raises(ValueError, match="a number of it is not written as it should be"):
            PublicKey.parse(f"ssh-rsa {spelled(b'ssh-rsa', *other)}")
    with pytest.raises(ValueError, match="something follows its end"):
        PublicKey.parse(f"ssh-ed25519 {spelled(b'ssh-ed25519', b'0' * 32, b'')}")
    with pytest.raises(ValueError, match="2048 bits"):
        PublicKey.parse(f"ssh-rsa {spelled(b'ssh-rsa', exponent, bytes([0]) + b'a' * 0 + bytes([255]) * 128)}")


def test_agent_signs_where_only_the_public_key_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key(tmp_path)
    started = subprocess.run(["ssh-agent", "-s"], check=True, capture_output=True, text=True).stdout
    told = dict(word.split("=") for word in started.replace(";", "\n").split() if "=" in word)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", told["SSH_AUTH_SOCK"])
        assert in_agent() == []
        subprocess.run(["ssh-add", "-q", str(key)], check=True)
        public = read_public(key)
        assert in_agent() == [public]
        key.unlink()
        signature = sign(TEXT, namespace=PLAN, key=key.with_name("key.pub"))
        assert verify(TEXT, signature, name="ann", allowed=allowed(public))
    finally:
        subprocess.run(["kill", told["SSH_AGENT_PID"]], check=True)


def test_key_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="made no signature"):
        sign(TEXT, namespace=PLAN, key=tmp_path / "nothing")
    with pytest.raises(ConfigError, match="there is no public key"):
        read_public(tmp_path / "nothing")


def test_file_of_signatures_is_read_back_and_each_is_in_it_once() -> None:
    one, other = Device().sign(TEXT, PLAN), Device().sign(TEXT, APPROVAL)
    text = bundle.written("a" * 64, [one, other, one])
    assert bundle.parse(text, "a" * 64) == (one, other)
    assert bundle.parse(bundle.written("a" * 64, []), "a" * 64) == ()


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda text: text.replace("v1", "v2"), "line 1: found"),
        (lambda text: text.replace("plan a", "plan b"), "line 2: found"),
        (lambda text: text.rstrip("\n"), "was cut"),
        (lambda text: text.replace("signature ", "approved "), "line 3: found 'approved'"),
        (lambda text: text.replace("signature ", "signature A"), "line 3: this is no SSH signature"),
        (lambda text: text + "signature \n" * 70, "more than 64"),
        (lambda _: "", "line 1"),
    ],
)
def test_file_of_signatures_that_was_edited_is_refused_with_the_line(edit: object, told: str) -> None:
    assert callable(edit)
    with pytest.raises(ValueError, match=told):
        bundle.parse(edit(bundle.written("a" * 64, [Device().sign(TEXT, PLAN)])), "a" * 64)


def test_plan_that_takes_the_place_of_another_does_not_keep_its_signatures(tmp_path: Path) -> None:
    plan, file = builders.plan(("a",)), tmp_path / "update.plan"
    earlier = builders.plan(("a", "b"))
    add_signatures(earlier, beside(file), [Device().sign(earlier.head, PLAN)])
    forget_earlier(earlier, file)
    assert len(read_signatures(earlier, beside(file))) == 1
    forget_earlier(plan, file)
    assert read_signatures(plan, beside(file)) == ()
    beside(file).write_text("not ours")
    forget_earlier(plan, file)
    assert beside(file).read_text() == "not ours"
