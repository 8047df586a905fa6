"""The key that signs closures: how it is read, what hosts say of it, and that its secret is never told."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from fleet.errors import ConfigError, PushError, UnfitError
from fleet.machine import Output
from fleet.model import Severity
from fleet.steps.sign import SigningKey, Trust, ask_trust, read_key, sign, untrusted
from tests.fakes import FakeMachine, runs
from tests.unit.builders import host

if TYPE_CHECKING:
    from pathlib import Path

SEED, PUBLIC = bytes(range(32)), bytes(range(100, 132))
ENCODED = base64.b64encode(PUBLIC).decode()
SECRET = f"home-1:{base64.b64encode(SEED + PUBLIC).decode()}"
CACHE = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(SECRET + "\n")
    return file


@pytest.fixture
def key(file: Path, tmp_path: Path) -> SigningKey:
    return read_key(tmp_path / "fleet.toml", file)


def test_key_is_known_by_its_public_part_alone(key: SigningKey, file: Path) -> None:
    assert (key.file, key.name, key.public) == (file, "home-1", f"home-1:{ENCODED}")
    assert SECRET[20:40] not in repr(key)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "is no key that signs store paths"),
        ("secret", "is no key that signs store paths"),
        (SECRET[:-4], "is no key that signs store paths"),
        (f"ho me:{SECRET.partition(':')[2]}", "is no key that signs store paths"),
        (f":{SECRET.partition(':')[2]}", "is no key that signs store paths"),
        (SECRET.replace("home-1:", "home-1:ü"), "is no key that signs store paths"),
        (f"home-1:{ENCODED}", "is a public key, and signing takes the secret one"),
    ],
)
def test_file_that_is_no_key_is_told_with_its_place_and_never_repeated(
    file: Path, tmp_path: Path, text: str | None, wrong: str
) -> None:
    file.unlink()
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_key(tmp_path / "fleet.toml", file)
    assert caught.value.message == f"{tmp_path}/fleet.toml: [fleet] signing_key: {file}: {wrong}"
    assert "nix-store --generate-binary-cache-key" in caught.value.hint
    assert SECRET.partition(":")[2][:16] not in caught.value.message + caught.value.hint


def test_folder_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_key(tmp_path / "fleet.toml", tmp_path)


async def test_all_paths_are_signed_by_one_command_that_names_the_file_only(key: SigningKey) -> None:
    here = FakeMachine((runs("nix"), Output(status=0)))
    await sign(here, key, ["/nix/store/a", "/nix/store/b"])
    (command,) = here.ran
    assert command.argv[-5:] == ("--recursive", "--key-file", str(key.file), "/nix/store/a", "/nix/store/b")
    assert command.stdin == b""


async def test_user_who_may_not_sign_is_told(key: SigningKey) -> None:
    here = FakeMachine((runs("nix"), Output(status=1, stderr="error: you are not privileged to add signatures\n")))
    with pytest.raises(ConfigError, match="cannot sign with") as caught:
        await sign(here, key, ["/nix/store/a"])
    assert "trusted-users" in caught.value.hint
    assert "privileged" in caught.value.said[0]


def says(*lines: str) -> FakeMachine:
    return FakeMachine((runs("sh", "-c"), Output(status=0, stdout="".join(f"{line}\n" for line in lines))))


SETTINGS = (f"trusted-public-keys = {CACHE}", "require-sigs = true", "store = auto", "trusted-users = root")


@pytest.mark.parametrize(
    ("lines", "checks_ours"),
    [
        (("NIX_REMOTE=", *SETTINGS), False),
        (("NIX_REMOTE=daemon", *SETTINGS), False),
        (("NIX_REMOTE=daemon", *SETTINGS[:3], "trusted-users = ann @wheel"), True),
        (("NIX_REMOTE=", *SETTINGS[:2], "store = unix:///run/nix", "trusted-users = ann"), True),
        (("NIX_REMOTE=daemon", *SETTINGS[:3], "trusted-users = *"), False),
        (("NIX_REMOTE=daemon", SETTINGS[0], "require-sigs = false", "trusted-users = ann"), False),
        (("NIX_REMOTE=", *SETTINGS[:3], "trusted-users = ann"), False),
    ],
)
async def test_signatures_of_ours_count_where_a_daemon_does_not_trust_root(
    lines: tuple[str, ...],
    checks_ours: bool,  # noqa: FBT001
) -> None:
    assert await ask_trust(says(*lines), host()) == Trust(keys=(CACHE,), checks_ours=checks_ours)


async def test_nix_that_does_not_tell_its_configuration_is_told() -> None:
    silent = FakeMachine((runs("sh", "-c"), Output(status=127, stderr="nix: not found\n")))
    with pytest.raises(PushError, match="does not tell its configuration"):
        await ask_trust(silent, host())


def test_key_that_counts_is_nothing_to_tell(key: SigningKey) -> None:
    assert untrusted(key, host(), Trust(keys=(CACHE, key.public), checks_ours=True)) is None


def test_key_that_does_not_count_is_told_with_the_line_that_is_missing(key: SigningKey) -> None:
    note = untrusted(key, host(), Trust(keys=(CACHE,)))
    assert note is not None
    assert (note.severity, note.kind) == (Severity.NOTE, "signature")
    assert "this host does not trust the key home-1" in note.message
    assert f"trusted-public-keys = {CACHE} {key.public};" in note.hint
    assert f'nix.settings.trusted-public-keys = [ "{key.public}" ];' in note.hint


def test_other_key_of_that_name_is_told(key: SigningKey) -> None:
    note = untrusted(key, host(), Trust(keys=("home-1:AAAA",)))
    assert note is not None
    assert "another key is called home-1" in note.message


def test_host_that_would_refuse_what_is_pushed_is_left_out(key: SigningKey) -> None:
    with pytest.raises(UnfitError, match="does not trust us") as caught:
        untrusted(key, host(), Trust(keys=(CACHE,), checks_ours=True))
    assert f"trusted-public-keys = {CACHE} {key.public}" in caught.value.hint
