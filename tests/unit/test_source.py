"""What `fleet check` finds in a lock file and in files, without Nix."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import CommandFailedError
from fleet.inventory import Host
from fleet.machine import Output
from fleet.machine.local import HERE
from fleet.model import Finding, Severity
from fleet.source import lock, remedies, tree
from fleet.source.outputs import FlakeCheck, unchecked, warnings
from fleet.source.secrets import PERMISSION, secrets
from fleet.source.tree import Tree
from tests.fakes import FakeMachine, runs

DAY = 86400
NOW = 1_800_000_000.0
GITHUB = {"type": "github", "owner": "o", "repo": "r", "rev": "a" * 40, "narHash": "sha256-x", "lastModified": int(NOW)}


def locks(**nodes: dict[str, Any]) -> dict[str, Any]:
    root = {"inputs": {name: name for name in nodes}}
    return {"root": "root", "version": 7, "nodes": {"root": root, **nodes}}


def kinds(**nodes: dict[str, Any]) -> list[str]:
    return [finding.kind for finding in lock.findings(locks(**nodes), now=NOW)]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"locked": GITHUB, "original": {"type": "github"}}, []),
        ({"locked": {"type": "path", "path": "/home/me/dep", "narHash": "sha256-x"}}, ["path_input"]),
        ({"locked": {"type": "git", "url": "file:///home/me/dep", "rev": "a"}}, ["path_input"]),
        ({"locked": GITHUB, "original": {"type": "path", "path": "/home/me/dep"}}, ["path_input"]),
        ({"locked": {"type": "path", "path": "./dep"}, "parent": []}, []),
        ({"locked": {"type": "path", "path": "dep"}}, []),
        ({"locked": {"type": "github", "owner": "o", "repo": "r"}}, ["unlocked_input"]),
        ({}, ["unlocked_input"]),
        ({"locked": {"type": "git", "url": "https://x", "rev": "a", "dirtyRev": "b"}}, ["unlocked_input"]),
        ({"locked": {"type": "tarball", "url": "https://x", "narHash": "sha256-x"}}, []),
    ],
)
def test_an_input_has_to_be_locked_and_to_be_had_elsewhere(node: dict[str, Any], expected: list[str]) -> None:
    assert kinds(dep=node) == expected


def test_an_input_of_an_input_counts_too() -> None:
    nodes = locks(dep={"locked": GITHUB, "inputs": {"deep": "deep"}})
    nodes["nodes"]["deep"] = {"locked": {"type": "path", "path": "/x"}}
    assert [finding.kind for finding in lock.findings(nodes, now=NOW)] == ["path_input"]


def test_an_old_input_is_a_note() -> None:
    old = {**GITHUB, "lastModified": int(NOW) - 91 * DAY}
    (finding,) = lock.findings(locks(nixpkgs={"locked": old}), now=NOW)
    assert (finding.kind, finding.severity) == ("lock_old", Severity.NOTE)
    assert "91 days old" in finding.message
    assert kinds(nixpkgs={"locked": {**GITHUB, "lastModified": int(NOW) - 90 * DAY}}) == []


def test_a_flake_without_inputs_has_nothing_to_lock() -> None:
    assert lock.findings({"root": "root", "version": 7, "nodes": {"root": {}}}, now=NOW) == []
    assert lock.findings({}, now=NOW) == []


@pytest.mark.parametrize(
    ("stderr", "is_stale"),
    [
        ("error: flake 'x' requires lock file changes but they're not allowed", True),
        ("error: cannot update unlocked flake input 'dep' in pure mode", True),
        ("error: unable to download 'https://api.github.com/…'", True),
        ("error: syntax error, unexpected end of file", False),
    ],
)
def test_only_what_concerns_the_lock_file_is_blamed_on_it(stderr: str, is_stale: bool) -> None:  # noqa: FBT001
    assert (lock.stale(stderr) is not None) == is_stale


def joined(*parts: str) -> str:
    """A secret that is none as long as this file is not run."""
    return "".join(parts)


SECRETS = [
    ("a private key", joined("-----BEGIN OPENSSH PRI", "VATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n")),
    ("a private key", joined("    -----BEGIN PRI", "VATE KEY-----\n    MIGHAgEAMBMGByqGSM49\n")),
    ("a private key", joined('key = "-----BEGIN RSA PRI', "VATE KEY-----\\nMIIEowIBAAKCAQEA", '";')),
    ("a private key", joined("-----BEGIN PGP PRI", "VATE KEY BLOCK-----\n\nlQOYBF0AAAAAAAAAAAAA\n")),
    ("an age key", joined("AGE-SECRET-", "KEY-1", "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L")),
    ("a key that signs store paths", joined("cache-1:", "A" * 86, "==")),
    ("a WireGuard key", joined('privateKey = "', "A" * 43, '=";')),
    ("a WireGuard key", joined("PrivateKey = ", "A" * 43, "=")),
    ("an AWS key", joined("AKIA", "ABCDEFGHIJKLMNOP")),
    ("a GitHub token", joined("ghp_", "a" * 36)),
    ("a GitLab token", joined("glpat-", "a" * 20)),
    ("a Slack token", joined("xoxb-", "123456789012-abcdefghijkl")),
    ("a Hugging Face token", joined("hf_", "a" * 34)),
    ("an API key", joined("sk-ant-", "a" * 40)),
    ("a Tailscale key", joined("tskey-auth-", "abc-def")),
    ("a password", joined("initialPass", 'word = "letmein";')),
    ("a password", joined("users.users.me.pass", 'word = "letmein";')),
    ("the hash of a password", joined("hashedPass", 'word = "$y$j9T$abcdefgh$ijk";')),
]


@pytest.mark.parametrize(("kind", "text"), SECRETS)
def test_a_secret_is_found_on_its_line(kind: str, text: str) -> None:
    assert list(secrets(f"one\n{text}\nthree\n")) == [(2, kind)]


@pytest.mark.parametrize(
    "text",
    [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEdy1O4RrRfvmFzGMLzwmP1bs5JEaGBSjPw3YFTCXq7V you@controller",
        "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=",
        "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n",
        "-----BEGIN AGE ENCRYPTED FILE-----\nYWdlLWVuY3J5cHRpb24\n",
        'data = "ENC[AES256_GCM,data:abcdefghijklmnop,iv:x,tag:y,type:str]"',
        'hashedPasswordFile = "/run/secrets/me";',
        'password = "${secret}";',
        "publicKey = " + "A" * 43 + "=",
        "narHash = sha256-WvvHR4kSQLAbtouMC/ruZ5UpLwlUcY3K4FAllMN+yGk=",
        "if line == '-----BEGIN OPENSSH PRIVATE KEY-----':",
    ],
)
def test_what_may_be_public_is_no_secret(text: str) -> None:
    assert list(secrets(text)) == []


def test_a_line_that_says_so_lets_the_next_one_pass_and_no_more() -> None:
    line = joined("ghp_", "a" * 36)
    assert list(secrets(f"# {PERMISSION}\n{line}\n{line}\n")) == [(3, "a GitHub token")]
    assert list(secrets(f"{line} # {PERMISSION}\n")) == []


def made(folder: Path, *names: str, text: str = "x") -> tuple[Path, ...]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return tuple(map(Path, names))


@pytest.mark.parametrize(
    "git", [Output(status=128), CommandFailedError(HERE, "cannot run git")], ids=["no work tree", "no git"]
)
async def test_all_that_is_in_a_folder_is_seen_where_git_does_not_know_it(
    tmp_path: Path, git: Output | CommandFailedError
) -> None:
    files = made(tmp_path, "flake.nix", "new.nix")
    assert await tree.look(FakeMachine((runs("git"), git)), str(tmp_path)) == Tree(tmp_path, files)
    assert await tree.look(FakeMachine(), f"path:{tmp_path}") == Tree(tmp_path, files)


@pytest.mark.parametrize("flake", ["github:o/r", "/no/such/folder"])
async def test_flake_that_is_not_here_has_no_files(flake: str) -> None:
    assert await tree.look(FakeMachine(), flake) is None


def test_files_that_nix_reads_and_does_not_see_are_errors_and_others_a_note(tmp_path: Path) -> None:
    untracked = made(tmp_path, "hosts/new/default.nix", "flake.lock", "fleet.toml", "notes.txt", "b.txt")
    found = tree.findings(Tree(tmp_path, (), untracked))
    errors = [finding.message for finding in found if finding.severity is Severity.ERROR]
    assert [message.split()[0] for message in errors] == ["hosts/new/default.nix", "flake.lock", "fleet.toml"]
    (note,) = [finding for finding in found if finding.severity is Severity.NOTE]
    assert note.message.endswith(": notes.txt, b.txt")


def test_a_secret_is_told_by_its_place_and_never_repeated(tmp_path: Path) -> None:
    secret = joined("ghp_", "a" * 36)
    files = made(tmp_path, "a/b.nix", text=f"\n{secret}\n")
    (finding,) = tree.findings(Tree(tmp_path, files))
    assert finding.message.startswith("a/b.nix:2: looks like a GitHub token")
    assert secret not in str(finding)


def test_links_binaries_and_what_is_gone_are_not_looked_into(tmp_path: Path) -> None:
    secret = joined("ghp_", "a" * 36)
    made(tmp_path, "real.txt", text=secret)
    (tmp_path / "link").symlink_to("real.txt")
    (tmp_path / "binary").write_bytes(b"\0" + secret.encode())
    assert tree.findings(Tree(tmp_path, (Path("link"), Path("binary"), Path("gone")))) == []


def test_the_keys_of_a_lab_are_thrown_away_with_it(tmp_path: Path) -> None:
    files = made(tmp_path, "keys/id", "other", text=joined("ghp_", "a" * 36))
    assert len(tree.findings(Tree(tmp_path, files))) == 2
    made(tmp_path, ".lab.json", text="{}")
    (finding,) = tree.findings(Tree(tmp_path, files))
    assert finding.message.startswith("other:1:")


def test_a_folder_for_a_host_that_there_is_not_is_a_note(tmp_path: Path) -> None:
    files = made(tmp_path, "hosts/a/default.nix", "hosts/b/default.nix", "hosts/c.nix", "x/hosts/d/default.nix")
    (found,) = tree.without_host(Tree(tmp_path, files), {"a"})
    assert (found.kind, found.severity, "hosts/b/default.nix" in found.message) == ("no_host", Severity.NOTE, True)


@pytest.mark.parametrize(
    ("flake", "folder"),
    [("/a/b", "/a/b"), ("path:/a/b?dir=c", "/a/b"), ("github:o/r", None), ("git+ssh://host/x", None)],
)
def test_only_a_flake_in_a_folder_here_has_files_to_look_at(flake: str, folder: str | None) -> None:
    assert tree.folder_of(flake) == (Path(folder) if folder else None)


def test_warnings_are_found_among_what_nix_tells() -> None:
    told = [
        "warning: Git tree '/home/me' is dirty",
        "evaluation warning: services.a.b is renamed",
        "                    to services.c",
        "copying path '/nix/store/x' from 'https://cache.nixos.org'...",
        "which goes on",
        "trace: warning: one more",
        "",
        "not of it",
        "evaluation warning: services.a.b is renamed to services.c",
    ]
    found = warnings(told)
    assert [one.message for one in found] == ["services.a.b is renamed to services.c", "one more"]
    assert {one.severity for one in found} == {Severity.NOTE}


def test_findings_and_checks_are_documented() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "json.md").read_text()
    shown = page.split("### `fleet check`")[1].split("\n### ")[0]
    for kind in (Finding, FlakeCheck):
        assert {f"`{field.name}`" for field in dataclasses.fields(kind)} <= set(re.findall(r"`\w+`", shown))
    room = Path(lock.__file__).parent
    others = (room.parent / "library" / name for name in ("gates.py", "meshing.py"))
    sources = "".join(path.read_text() for path in (*room.glob("*.py"), *others))
    kinds = re.findall(r'kind="(\w+)"', sources)
    table = shown.split("| kind of finding |")[1].split("\n\n")[0]
    assert {
        kind for row in re.findall(r"^\|([^|]*)\|", table, re.MULTILINE) for kind in re.findall(r"`(\w+)`", row)
    } == set(kinds)
    statuses = set(re.findall(r'"(passed|failed|evaluated|skipped)"', sources))
    assert all(f"`{status}`" in shown for status in statuses)


def test_hosts_without_a_check_are_a_note() -> None:
    checks = [{"name": "ok", "command": "ok"}]
    hosts = [Host.model_validate({"name": name, "checks": checks if name == "b" else []}) for name in ("a", "b", "c")]
    (found,) = unchecked(hosts)
    assert (found.kind, found.severity) == ("no_checks", Severity.NOTE)
    assert found.message.startswith("no check is declared for a, c: ")
    assert unchecked(hosts[1:2]) == []


NOT_THERE = "error: attribute 'shop-2' missing"


@pytest.mark.parametrize(
    ("lines", "hint"),
    [
        ([NOT_THERE, "", "       at «string»:1:10:"], "the flake has no shop-2 there: write it, or correct attr"),
        ([NOT_THERE, "       at (string):1:10:"], "the flake has no shop-2 there"),
        ([NOT_THERE, "       at /nix/store/s/hosts/shop-2.nix:4:2:"], ""),
        (["error: infinite recursion encountered", "       at «string»:1:10:"], ""),
    ],
)
def test_only_an_attribute_that_fleet_asks_for_is_explained_by_fleet_toml(lines: list[str], hint: str) -> None:
    assert bool(remedies.missing(lines)) is bool(hint)
    assert hint in remedies.missing(lines)
