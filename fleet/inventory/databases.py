"""Read the address of the PostgreSQL database that keeps the state of a fleet.

It is taken apart here, and nothing else is handed to libpq: the two cannot read one text in different ways.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from fleet.inventory import values
from fleet.inventory.words import nearest
from fleet.model import DatabaseAddress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_URL = re.compile(r"postgresql://(?:([^/?#@]*)@)?([^/?#@]*)/([^/?#]+)(?:\?([^#]*))?", re.ASCII)
_FILES = ("passfile", "sslrootcert", "sslcert", "sslkey")
_KEYS = ("host", "sslmode", "target_session_attrs", *_FILES)
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_ATTRIBUTES = ("any", "read-write", "primary")
_WHAT = 'a URL such as "postgresql://fleet@db.example.org/fleet?sslmode=verify-full"'
PASSWORD = "has a password in it; put that in a password file (~/.pgpass, or passfile=FILE), which only you can read"


def database(value: object, folder: Path) -> DatabaseAddress:
    """Read a URL without a password. Beyond this machine it must ask for a verified certificate.

    Its files are relative to `folder`. What is wrong is said without the URL: it may have a password in it.
    """
    word = values.text(value, _WHAT)
    match = _URL.fullmatch(word)
    if match is None:
        raise ValueError(PASSWORD if re.match(r"\w+://[^/]*:[^/]*@", word) else f"expected {_WHAT}")
    login, places, name, query = match.groups()
    if login is not None and ":" in login:
        raise ValueError(PASSWORD)
    options = dict(_options(query or "", folder))
    hosts = _hosts(places, options.pop("host", None))
    far = [host for host, _ in hosts if not _is_here(host)]
    if far and options.get("sslmode") != "verify-full":
        raise ValueError(f"{far[0]} is another machine: add sslmode=verify-full, so that nobody can pretend to be it")
    user = _decoded(login) if login else None
    return DatabaseAddress(hosts=hosts, database=_decoded(name), user=user, options=options)


def _hosts(places: str, socket: str | None) -> tuple[tuple[str, int | None], ...]:
    if socket is None:
        return tuple(map(values.host_and_port, places.split(","))) if places else ()
    if places or not socket.startswith("/"):
        raise ValueError("host= is for the folder of a Unix socket; write other hosts before the name of the database")
    return ((socket, None),)


def _options(query: str, folder: Path) -> Iterator[tuple[str, str]]:
    seen = set[str]()
    for pair in query.split("&") if query else ():
        key, equals, text = pair.partition("=")
        if key in ("password", "sslpassword"):
            raise ValueError(PASSWORD)
        if key not in _KEYS:
            raise ValueError(f"unknown parameter {key[:40]}{nearest(key, _KEYS) or '; expected ' + ', '.join(_KEYS)}")
        if key in seen or not equals or not text:
            raise ValueError(f"{key} stands there twice" if key in seen else f"{key} has no value")
        seen.add(key)
        yield key, _option(key, _decoded(text), folder)


def _option(key: str, text: str, folder: Path) -> str:
    known = {"sslmode": _SSL_MODES, "target_session_attrs": _ATTRIBUTES}.get(key)
    if known is not None and text not in known:
        raise ValueError(f"{key} is one of {', '.join(known)}")
    if key in _FILES and not (key == "sslrootcert" and text == "system"):
        return str(values.file_path(text, folder))
    return text


def _decoded(text: str) -> str:
    if re.fullmatch(r"(?:[^%]|%[0-9A-Fa-f]{2})*", text) is None:
        raise ValueError("has a % that is not followed by two digits of base 16")
    found = unquote(text, errors="replace")
    if not found.isprintable() or "\ufffd" in found:
        raise ValueError("has something in it that is not printable")
    return found


def _is_here(host: str) -> bool:
    return host.startswith("/") or values.is_loopback(host)
