"""What an SSH configuration says about one host, as a value."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Answers = dict[str, list[str]]
"""What `ssh -G` prints: for each key, in lower case, its values in order."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to log in to one host, as far as the SSH configuration of this machine decides."""

    hostname: str
    port: int = 22
    user: str = ""
    identity_files: tuple[Path, ...] = ()
    certificate_files: tuple[Path, ...] = ()
    identities_only: bool = False
    agent: str = ""
    """The path of the agent's socket. Empty for none."""
    known_hosts: tuple[str, ...] | None = None
    """The user's files of known keys. None for the usual ones."""
    system_known_hosts: tuple[str, ...] | None = None
    revoked_host_keys: tuple[str, ...] = ()
    """Files of keys that no host may show."""
    host_key_alias: str | None = None
    proxy_jump: str = ""
    proxy_command: str = ""
    """With everything in place, for a shell."""
    connect_timeout: float | None = None
    preferred_auth: tuple[str, ...] = ()
    address_family: int = socket.AF_UNSPEC
    bind_address: str = ""
    is_compressed: bool | None = None
    """None if it does not say."""
    forwards_agent: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    algorithms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Those that it chooses, by OpenSSH's key in lower case. Others are asyncssh's to choose."""


ALGORITHMS = ("ciphers", "hostkeyalgorithms", "kexalgorithms", "macs", "pubkeyacceptedalgorithms")
FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
HERE = re.compile(r"\$\{(\w+)\}")


def home() -> Path:
    """Return the home folder that `~` stands for."""
    return Path.home()


def read(answers: Answers, usual: Answers, address: str) -> Settings:
    """Return what `ssh -G address` has said.

    `usual` is what it says where nothing is configured: what is the same there is not taken for a choice.
    Only the value of `compression` is a choice whatever it is, if there is one.
    """

    def one(key: str) -> str:
        value = answers.get(key, ["none"])[0]
        return "" if value.lower() == "none" else value

    def chosen(key: str) -> bool:
        return answers.get(key) != usual.get(key)

    tokens = _tokens(answers, address)
    revoked = [word for word in answers.get("revokedhostkeys", []) if word.lower() != "none"]
    agent = one("identityagent") if "identityagent" in answers else "SSH_AUTH_SOCK"
    agent = os.environ.get("SSH_AUTH_SOCK", "") if agent == "SSH_AUTH_SOCK" else agent
    agent = os.environ.get(agent[1:], "") if agent.startswith("$") and not HERE.match(agent) else agent
    return Settings(
        hostname=one("hostname") or address,
        port=int(one("port") or 22),
        user=one("user"),
        identity_files=_files(answers.get("identityfile", []), tokens),
        certificate_files=_files(answers.get("certificatefile", []), tokens),
        identities_only=one("identitiesonly") == "yes",
        agent=_at_home(_expanded(agent, tokens)) if agent else "",
        known_hosts=_paths(one("userknownhostsfile")) if chosen("userknownhostsfile") else None,
        system_known_hosts=_paths(one("globalknownhostsfile")) if chosen("globalknownhostsfile") else None,
        revoked_host_keys=_paths(" ".join(revoked)),
        host_key_alias=_expanded(one("hostkeyalias"), tokens) or None,
        proxy_jump=_expanded(one("proxyjump"), tokens),
        proxy_command=_expanded(one("proxycommand"), tokens),
        connect_timeout=float(one("connecttimeout")) if one("connecttimeout").isdigit() else None,
        preferred_auth=tuple(filter(None, one("preferredauthentications").split(","))),
        address_family=FAMILIES.get(one("addressfamily"), socket.AF_UNSPEC),
        bind_address=one("bindaddress"),
        is_compressed=one("compression") == "yes" if "compression" in answers else None,
        forwards_agent=one("forwardagent") not in ("", "no"),
        environment=environment(
            dict(line.partition("=")[::2] for line in answers.get("setenv", [])), answers.get("sendenv", [])
        ),
        algorithms={key: tuple(one(key).split(",")) for key in ALGORITHMS if key in answers and chosen(key)},
    )


def _tokens(answers: Answers, address: str) -> dict[str, str]:
    """Return what OpenSSH's tokens stand for (TOKENS in ssh_config(5))."""
    person, here = pwd.getpwuid(os.getuid()), socket.gethostname()
    name, port, user = (answers.get(key, [""])[0] for key in ("hostname", "port", "user"))
    jump = answers.get("proxyjump", [""])[0]
    mixed = hashlib.sha1(f"{here}{name}{port}{user}{jump}".encode(), usedforsecurity=False).hexdigest()
    alias = answers.get("hostkeyalias", [address])[0]
    return {
        "%": "%", "C": mixed, "d": str(home()), "h": name, "i": str(os.getuid()), "j": jump, "k": alias,
        "L": here.partition(".")[0], "l": here, "n": address, "p": port, "r": user, "u": person.pw_name,
    }  # fmt: skip


def _expanded(text: str, tokens: Mapping[str, str]) -> str:
    """Return the text with its tokens replaced. One that is not known stays as it is."""
    return re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), text)


def _files(names: list[str], tokens: Mapping[str, str]) -> tuple[Path, ...]:
    texts = [HERE.sub(lambda found: os.environ.get(found[1], ""), name) for name in names if name.lower() != "none"]
    return tuple(Path(_at_home(_expanded(text, tokens))) for text in dict.fromkeys(texts))


def _paths(words: str) -> tuple[str, ...]:
    """Return the paths in a list that is separated by spaces. Nothing is quoted: a path goes on until the next one."""
    paths: list[str] = []
    for word in words.split(" "):
        if paths and not word.startswith(("/", "~")):
            paths[-1] += f" {word}"
        else:
            paths.append(word)
    return tuple(_at_home(path) for path in paths if path)


def _at_home(path: str) -> str:
    """Return the path with `~` replaced.

    OpenSSH replaces some by itself, and never looks at HOME. Where that is another folder, the file there is meant.
    """
    if path.startswith("~"):
        return os.path.expanduser(path)  # noqa: PTH111  # Path would make `//` into `/`, and fails for unknown users
    inside = os.path.relpath(path, pwd.getpwuid(os.getuid()).pw_dir)
    moved = home() / inside
    return str(moved) if not inside.startswith("..") and moved.exists() else path


def environment(set_env: Mapping[str, str], send_env: Iterable[str]) -> dict[str, str]:
    """Return what commands find in their environment: SetEnv, and SendEnv but for the language.

    The locale of a person is no matter of commands whose output is read, and a session without variables is quicker.
    """
    pairs = dict(set_env)
    for name in send_env:
        if name != "LANG" and not name.startswith("LC_"):
            pattern = re.compile(re.escape(name).replace(r"\*", ".*").replace(r"\?", "."))
            pairs |= {key: value for key, value in os.environ.items() if pattern.fullmatch(key)}
    pairs.pop("FLEET_SUDO_PASSWORD", None)
    return pairs
