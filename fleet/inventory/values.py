"""Read single values of fleet.toml.

Each reader returns the value, or raises a ValueError that says what was found and what was expected.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fleet.inventory.patterns import PatternError, compiled
from fleet.inventory.words import expected, nearest, shown

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}(?:\.[A-Za-z0-9_-]{1,63})*")
_ADDRESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_UNIT = re.compile(r"[A-Za-z0-9_:.@\\][A-Za-z0-9_:.@\\-]*")
_UNIT_GLOB = re.compile(r"[A-Za-z0-9_:.@\\*?\[][A-Za-z0-9_:.@\\*?\[\]!-]*")
_SYSTEM = re.compile(r"[a-z0-9_]+-(linux|darwin)")
_SYSTEMS = (
    "x86_64-linux",
    "aarch64-linux",
    "i686-linux",
    "armv7l-linux",
    "armv6l-linux",
    "riscv64-linux",
    "aarch64-darwin",
)
_KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


def text(value: object, what: str) -> str:
    """Read a string."""
    if not isinstance(value, str) or "\0" in value:
        raise expected(value, what)
    return value


def list_of(read: Callable[[object], str], what: str) -> Callable[[object], tuple[str, ...]]:
    """Return what reads a list of which `read` reads each item. `what` is what they are, for people."""

    def read_list(value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise expected(value, f"a list of {what}")
        return tuple(read(item) for item in value)

    return read_list


def name(value: object) -> str:
    """Read a host name or a tag: a word that is safe in selectors, file names, unit names and shells."""
    word = text(value, "a name")
    if _NAME.fullmatch(word) is None or len(word) > 253:
        raise expected(value, "letters, digits, '.', '_' and '-', beginning with a letter or digit")
    return word


def fleet_id(value: object) -> str:
    """Read what tells a fleet from every other."""
    word = text(value, "an id")
    if re.fullmatch(r"[0-9a-f]{8,64}", word) is None:
        raise expected(value, "8 to 64 digits in base 16; fleet plan --sign writes an id")
    return word


def is_ip(word: str) -> bool:
    """Whether this is an IPv4 or IPv6 literal, with or without a zone."""
    bare, percent, zone = word.partition("%")
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return False
    return not percent or _ZONE.fullmatch(zone) is not None


def is_loopback(host: str) -> bool:
    """Whether what is sent there does not leave this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address(value: object) -> str:
    """Read a host name, IPv4 or IPv6 literal."""
    word = text(value, "an address or a list of addresses")
    if is_ip(word):
        return word
    if "{" in word:
        raise expected(value, "an address in which {name} stands for the host's name, and nothing else is in braces")
    if "@" in word:
        raise expected(value, 'an address alone: write user = "…" for the user')
    if re.fullmatch(r"[^:]+:\d+|\[.*\].*", word):
        raise expected(value, "an address alone: write port = N for the port, and IPv6 without brackets")
    if _ADDRESS.fullmatch(word) is None or len(word) > 253:
        raise expected(value, "a host name or an IP address")
    return word


def addresses(value: object) -> tuple[str, ...]:
    """Read one address, or several to be tried in order."""
    words = tuple(address(each) for each in value) if isinstance(value, list | tuple) else (address(value),)
    if not words:
        raise expected([], "at least one address")
    if len(set(words)) < len(words):
        raise ValueError("names the same address twice")
    return words


def user(value: object) -> str:
    """Read a login name."""
    word = text(value, "a user name")
    if _USER.fullmatch(word) is None:
        raise expected(value, "a user name: letters, digits, '.', '_' and '-'")
    return word


def profile(value: object) -> str:
    """Read the name of a profile on a host: a word as user names are."""
    word = text(value, "the name of a profile")
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", word) is None:
        raise expected(value, "the name of a profile: letters, digits, '.', '_' and '-'")
    return word


def port(value: object) -> int:
    """Read a TCP port."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise expected(value, "a port from 1 to 65535")
    return value


def host_and_port(value: object) -> tuple[str, int | None]:
    """Split `host`, `host:port`, `[v6]` or `[v6]:port`."""
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::(\d{1,5}))?", text(value, '"host:port"'), re.ASCII)
    if match is None or (match[1] and not is_ip(match[1])):
        raise expected(value, '"host:port", with IPv6 in brackets')
    return address(match[1] or match[2]), port(int(match[3])) if match[3] else None


def tcp_target(value: object) -> str:
    """Read `host:port`, with both parts."""
    if host_and_port(value)[1] is not None:
        return str(value)
    raise expected(value, '"host:port"')


def jump(value: object) -> str | None:
    """Read a host's name or `user@host[:port]`; an empty string means no jump.

    Whether the host exists is checked later.
    """
    word = text(value, "a host of this file, or user@host:port")
    if not word:
        return None
    login, at, rest = word.rpartition("@")
    if at:
        user(login)
        host_and_port(rest)
        return word
    try:
        return name(word)
    except ValueError:
        raise expected(value, "a host of this file, or user@host:port") from None


def system(value: object) -> str:
    """Read a Nix system that NixOS exists for."""
    word = text(value, 'a system such as "x86_64-linux"')
    if _SYSTEM.fullmatch(word) is None:
        raise ValueError(f"{expected(value, 'a system such as x86_64-linux')}{nearest(word, _SYSTEMS)}")
    return word


def host_key(value: object) -> str:
    """Read a complete SSH public key: its base64 names the same type, and is not cut off."""
    what = 'an SSH public key such as "ssh-ed25519 AAAA…"'
    word = text(value, what)
    kind, _, rest = word.partition(" ")
    encoded, _, comment = rest.partition(" ")
    if kind not in _KEY_TYPES or not comment.isprintable():
        raise expected(value, what)
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise expected(value, what) from None
    fields = []
    while len(blob) >= 4:
        end = 4 + int.from_bytes(blob[:4], "big")
        fields.append(blob[4:end])
        blob = blob[end:] if end <= len(blob) else b"cut"
    if blob or len(fields) < 2 or fields[0] != kind.encode():
        raise expected(value, f"a whole {kind} key; this one is cut off or of another type")
    return word


def unit(value: object) -> str:
    """Read the name of a systemd unit."""
    word = text(value, "the name of a unit")
    if _UNIT.fullmatch(word) is None:
        raise expected(value, 'the name of a unit such as "nginx.service"')
    return word


def unit_glob(value: object) -> str:
    """Read the name of a systemd unit, or a glob for several."""
    word = text(value, "the name of a unit")
    if _UNIT_GLOB.fullmatch(word) is None:
        raise expected(value, 'the name of a unit or a glob such as "backup-*"')
    return word


def snippet(value: object) -> str:
    """Read the name of an activation script: its attribute in `system.activationScripts`."""
    word = text(value, "the name of an activation script")
    if re.fullmatch(r"[0-9A-Za-z_.:@+/-]+", word) is None:
        raise expected(value, 'the name of an activation script such as "specialfs"')
    return word


def url(value: object) -> str:
    """Read an http or https address without a login or a fragment."""
    what = 'an address such as "http://127.0.0.1:8000/health"'
    word = text(value, what)
    if re.fullmatch(r"https?://[!-~]+", word) is None or "#" in word:
        raise expected(value, what)
    try:
        parts = urlsplit(word)
        number = parts.port
    except ValueError:
        raise expected(value, what) from None
    if "@" in parts.netloc:
        raise ValueError('has a login in it; write headers = { Authorization = "…" }')
    if not parts.hostname or number == 0:
        raise expected(value, what)
    address(parts.hostname)
    return word


def line(value: object) -> str:
    """Read text on one line."""
    word = text(value, "a line of text")
    if not word.strip() or not word.isprintable():
        raise expected(value, "one line of text")
    return word


def script(value: object) -> str:
    """Read a command for `sh -c`."""
    word = text(value, "a shell command")
    if not word.strip() or "\0" in word:
        raise expected(value, "a shell command")
    return word


def regex(value: object) -> str:
    """Read a regular expression that RE2 can compile."""
    word = text(value, "a regular expression")
    try:
        compiled(word)
    except PatternError as error:
        raise ValueError(f"found {shown(word)}, which is no regular expression of RE2: {error}") from None
    return word


def file_path(value: object, folder: Path) -> Path:
    """Read a path and make it absolute: `~` is the home folder, and other paths are relative to fleet.toml's folder."""
    word = text(value, "the path of a file")
    if not word or "\0" in word:
        raise expected(value, "the path of a file")
    try:
        return folder / Path(word).expanduser()
    except RuntimeError:
        raise expected(value, "a path whose ~ can be resolved") from None
